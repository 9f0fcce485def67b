"""Everything the feed knows: its fixtures and when each sport was last heard. Answers go in, what was odd comes out.

No I/O, no clock. The rules for events that change their mind:

- Gone from the answers, or unreadable, or a line no longer offered: suspended, not closed; it may come back.
- Put off before its betting ended: start and closing time move with it. After that its betting stays ended; the bets
  wait for the result, and the feed asks for it when the match is played.
- Brought forward: betting ends at the new time.
- Sides told the other way round: prices are turned back, so that each selection stays what was bet on.
- Other sides under the same id: not taken; what is offered is suspended, and its result is for a person to give.
- Completed while its start is still ahead, or sooner than any match of its sport is over: no result. The feed waits
  and asks again; where scores and odds name different starts, the later one counts.
- Over without a result for three days: the source has forgotten it; a person settles or voids it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from betting.feeds.the_odds_api import fixtures
from betting.feeds.the_odds_api.decoding import shown, time_shown
from betting.feeds.the_odds_api.fixtures import SCHEDULED, STARTED, Fixture, FixtureStep
from betting.feeds.the_odds_api.model import Skip, SourceEvent, SourceScore
from betting.feeds.the_odds_api.polling import RESULTS_KEPT_US, SportView

FIXTURES_MAX = 20_000
DONE_KEPT_MAX = 5_000


@dataclass(slots=True)
class Sport:
    """When a sport was last answered (microseconds since 1970), and from when on it may be asked again.

    A sport that is put aside (`aside_until_us`) is refused by the source; `retry_at_us` follows a question that failed.
    """

    key: str
    odds_at_us: int | None = None
    scores_at_us: int | None = None
    aside_until_us: int = 0
    retry_at_us: int = 0


@dataclass(slots=True)
class Book:
    """The state. `answered_at_us` is when the source last answered, `fresh_since_us` from when on prices are fresh."""

    sports: dict[str, Sport]
    outage_us: int
    fixtures: dict[int, Fixture] = field(default_factory=dict)
    # Events that are over for good, with their goals (None: abandoned).
    done: dict[int, tuple[int, int] | None] = field(default_factory=dict)
    answered_at_us: int = 0
    fresh_since_us: int = 0
    # Rises with whatever may change what is to be published.
    revision: int = 0

    def answered(self, now_us: int) -> bool:
        """The source has answered; True: after a gap, of the source or because the feed itself stood still. Prices from
        before it are not fresh, as odds-service has suspended them meanwhile; all may be asked at once."""
        after_gap = now_us - self.answered_at_us > self.outage_us
        self.answered_at_us = now_us
        if after_gap:
            self.fresh_since_us = now_us
            for sport in self.sports.values():
                sport.retry_at_us = 0
        return after_gap

    def set_back(self, now_us: int) -> None:
        """The clock was set back: what happened in its future happened now, and prices are to be asked anew."""
        self.answered_at_us = min(self.answered_at_us, now_us)
        self.fresh_since_us = now_us
        for sport in self.sports.values():
            sport.odds_at_us = sport.scores_at_us = None
            sport.aside_until_us = sport.retry_at_us = 0

    def is_whole(self, now_us: int) -> bool:
        """Whether every sport's prices are from after the last gap: only then is there a snapshot to send."""
        asked = [sport for sport in self.sports.values() if sport.aside_until_us <= now_us]
        return bool(asked) and all(_is_fresh(sport, self.fresh_since_us) for sport in asked)

    def views(self, now_us: int) -> list[SportView]:
        """What decides when to ask next."""
        mine: dict[str, list[Fixture]] = {key: [] for key in self.sports}
        for fixture in self.fixtures.values():
            mine[fixture.sport_key].append(fixture)
        return [_view(sport, mine[key], now_us) for key, sport in self.sports.items()]

    def take_odds(self, sport_key: str, events: Sequence[SourceEvent], now_us: int) -> list[Skip]:
        """An odds answer: all there is of this sport now."""
        self.sports[sport_key].odds_at_us = now_us
        self.revision += 1
        skips: list[Skip] = []
        offered = set()
        for event in events:
            if event.sport_key != sport_key:
                skips.append(_skip(event.source_id, f"it is of {shown(event.sport_key)}, not of {sport_key}"))
                continue
            taken, why = self._take_event(event, now_us)
            if why:
                skips.append(_skip(event.source_id, why))
            if taken:
                offered.add(fixtures.event_id(event.source_id))
        for fixture in self.fixtures.values():
            if fixture.sport_key == sport_key and fixture.event_id not in offered:
                fixture.present = frozenset()
        return skips

    def take_scores(self, sport_key: str, scores: Sequence[SourceScore], now_us: int) -> list[Skip]:
        """A scores answer; only matches of ours without a result take something from it."""
        self.sports[sport_key].scores_at_us = now_us
        return [_skip(score.source_id, why) for score in scores if (why := self._take_score(score, now_us))]

    def due(self, now_us: int, *wanted: FixtureStep) -> list[tuple[Fixture, FixtureStep]]:
        """The steps to take now, earliest match first."""
        found = [(fixture, step) for fixture in self.fixtures.values() if (step := fixture.next_step(now_us)) in wanted]
        return sorted(found, key=lambda each: each[0].starts_at_us)

    def end(self, event_id: int, goals: tuple[int, int] | None) -> None:
        """The event is settled, or abandoned: nothing is offered on it any more."""
        self.fixtures.pop(event_id, None)
        while len(self.done) >= DONE_KEPT_MAX:
            self.done.pop(next(iter(self.done)))
        self.done[event_id] = goals

    def tidy(self, now_us: int) -> None:
        """Forgets fixtures that never came into the catalogue and cannot any more."""
        gone = [each for each in self.fixtures.values() if each.listed_start_us is None and each.is_over(now_us)]
        for fixture in gone:
            del self.fixtures[fixture.event_id]

    def overdue(self, now_us: int) -> list[Fixture]:
        """Matches whose result the source has forgotten."""
        return [each for each in self.fixtures.values() if _awaits(each, now_us) and not _may_come(each, now_us)]

    def _take_event(self, event: SourceEvent, now_us: int) -> tuple[bool, str]:
        """Whether it is offered now, and what is to be said about it."""
        fixture = self.fixtures.get(fixtures.event_id(event.source_id))
        if fixture is None:
            return self._take_new(event, now_us)
        told = fixtures.as_known(fixture, event)
        if told is None:
            return False, f"its sides are others than before: {shown(event.home)} and {shown(event.away)}"
        fixture.expected_us, fixture.league = told.starts_at_us, told.league
        if fixture.is_over(now_us):
            late = told.starts_at_us > now_us
            return False, "it was put off after its betting ended: its bets wait for the result" if late else ""
        fixture.starts_at_us = told.starts_at_us
        if told.starts_at_us <= now_us:
            return False, ""
        left_out = fixtures.offer(fixture, told)
        return True, f"{left_out} new lines are left out: {fixtures.MARKETS_MAX} are the most" if left_out else ""

    def _take_new(self, event: SourceEvent, now_us: int) -> tuple[bool, str]:
        if event.starts_at_us <= now_us or not event.markets:
            return False, ""
        if len(self.fixtures) >= FIXTURES_MAX:
            return False, f"{FIXTURES_MAX} events at once are the most: ask for fewer sports"
        fixture = fixtures.new(event)
        if fixture.event_id in self.done:
            return False, "it is over already: it cannot begin again"
        self.fixtures[fixture.event_id] = fixture
        return True, ""

    def _take_score(self, score: SourceScore, now_us: int) -> str:
        """What is to be said about it; empty: nothing."""
        id_ = fixtures.event_id(score.source_id)
        fixture = self.fixtures.get(id_)
        if fixture is None:
            same = self.done.get(id_) in (
                None,
                (score.home_goals, score.away_goals),
                (score.away_goals, score.home_goals),
            )
            return (
                "" if same else "its score differs from what was settled: an operator decides (SettleEvent, version 2)"
            )
        goals = fixtures.goals_as_known(fixture, score)
        if goals is None:
            return "its result is one between other sides: an operator decides (SettleEvent or VoidMarket)"
        starts_at_us = max(fixture.starts_at_us, fixture.expected_us, score.starts_at_us)
        if fixture.is_over(now_us):
            # Put off: the result is asked for when the match is over.
            fixture.expected_us = starts_at_us
        from_us = fixtures.result_from_us(fixture, starts_at_us)
        if starts_at_us > now_us:
            return f"it is said to be completed, but it starts at {time_shown(starts_at_us)}: waiting for its result"
        if from_us > now_us:
            return (
                f"it is said to be completed, but it started at {time_shown(starts_at_us)} and none of its sport"
                f" is over before {time_shown(from_us)}: waiting for its result"
            )
        if fixture.goals is None:
            fixture.goals = goals
        return ""


def of_sports(keys: Iterable[str], outage_us: int) -> Book:
    """An empty book of these sports."""
    return Book({key: Sport(key) for key in keys}, outage_us)


def _view(sport: Sport, mine: Sequence[Fixture], now_us: int) -> SportView:
    return SportView(
        key=sport.key,
        odds_at_us=sport.odds_at_us,
        scores_at_us=sport.scores_at_us,
        kick_offs_us=[each.starts_at_us for each in mine if not each.is_over(now_us)],
        awaited_us=[each.expected_us for each in mine if _awaits(each, now_us)],
        aside_until_us=max(sport.aside_until_us, sport.retry_at_us),
    )


def _is_fresh(sport: Sport, since_us: int) -> bool:
    return sport.odds_at_us is not None and sport.odds_at_us >= since_us


def _awaits(fixture: Fixture, now_us: int) -> bool:
    started = fixture.status in (SCHEDULED, STARTED) and fixture.is_over(now_us)
    return started and fixture.listed_start_us is not None and fixture.goals is None


def _may_come(fixture: Fixture, now_us: int) -> bool:
    return now_us - fixture.expected_us < RESULTS_KEPT_US


def _skip(source_id: str, why: str) -> Skip:
    return Skip(f"event {shown(source_id)}", why)
