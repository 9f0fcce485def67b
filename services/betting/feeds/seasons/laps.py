"""The same season once more, under ids of its own: what a replay does when it has come to a season's end."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from betting.feeds.seasons import identity
from betting.feeds.seasons.model import Match, Season


def lap(season: Season, number: int) -> Season:
    """The season as it is replayed the `number`th time: the first time as it is, then labelled 2024-25.2 and so on."""
    assert number >= 1
    if number == 1:
        return season
    label = _label(season, number)
    meetings: Counter[tuple[str, str]] = Counter()
    matches = []
    # Meetings of the same sides are counted in the order in which the reader counted them.
    for match in sorted(season.matches, key=lambda match: (match.kick_off_us, match.line)):
        meetings[match.home, match.away] += 1
        meeting = meetings[match.home, match.away]
        matches.append(with_event_id(match, identity.event_id(season.division, label, match.home, match.away, meeting)))
    matches.sort(key=lambda match: (match.kick_off_us, match.event_id))
    return replace(season, label=label, matches=tuple(matches))


def lap_name(season: Season, number: int) -> str:
    """The name of the season's `number`th lap."""
    return replace(season, label=_label(season, number)).name


def with_event_id(match: Match, event_id: int) -> Match:
    """The same match under another id; the ids of its markets follow."""
    markets = tuple(
        replace(market, market_id=identity.market_id(event_id, market.kind, market.line_quarters))
        for market in match.markets
    )
    return replace(match, event_id=event_id, markets=markets)


def _label(season: Season, number: int) -> str:
    return season.label if number == 1 else f"{season.label}.{number}"
