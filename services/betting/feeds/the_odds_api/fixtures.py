"""One event of the feed: what the catalogue has of it, what is offered on it, and which step it needs next. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple

from betting.feeds.seasons import identity
from betting.feeds.the_odds_api.decoding import folded
from betting.feeds.the_odds_api.model import SourceEvent, SourceMarket, SourceScore, turned
from betting.runtime.clock import US_PER_S
from betting.v1 import event_pb2

PROVIDER = "the-odds-api"
# A line that moves is another market each time; beyond this, new lines of an event are left out.
MARKETS_MAX = 60

# Minutes from the start within which no match of a sport is over, breaks included; a result before that is a mistake.
SHORTEST_MATCH_MIN = {
    "soccer": 100,
    "americanfootball": 140,
    "aussierules": 110,
    "baseball": 75,
    "basketball": 80,
    "boxing": 0,
    "cricket": 60,
    "handball": 65,
    "icehockey": 110,
    "lacrosse": 75,
    "mma": 0,
    "rugbyleague": 85,
    "rugbyunion": 85,
    "tennis": 15,
}
SHORTEST_MATCH_OTHER_MIN = 60

SCHEDULED = int(event_pb2.EVENT_STATUS_SCHEDULED)
STARTED = int(event_pb2.EVENT_STATUS_STARTED)
FINISHED = int(event_pb2.EVENT_STATUS_FINISHED)


class FixtureStep(enum.Enum):
    """The next call to the catalogue or to settlement for a fixture."""

    LIST = "list"
    START = "start"
    FINISH = "finish"
    SETTLE = "settle"


class Listed(NamedTuple):
    """A market as the catalogue has it."""

    kind: int
    line_quarters: int
    closes_at_us: int


@dataclass(slots=True)
class Fixture:
    """`home`, `away` and what is listed never turn round: bets name selections by id.

    `starts_at_us` is when betting ends, `expected_us` when the source says the match begins: they part when a match is
    put off after its betting has ended. `listed` is what the catalogue has, by market id, `listed_start_us` its start
    (None: not there yet).
    """

    event_id: int
    sport_key: str
    league: str
    home: str
    away: str
    starts_at_us: int
    expected_us: int
    status: int = SCHEDULED
    listed_start_us: int | None = None
    listed: dict[int, Listed] = field(default_factory=dict)
    markets: dict[int, SourceMarket] = field(default_factory=dict)
    # Markets in the source's last answer; the others are suspended.
    present: frozenset[int] = frozenset()
    goals: tuple[int, int] | None = None
    aside_until_us: int = 0
    # What it was last refused for.
    refused: str = ""

    def is_over(self, now_us: int) -> bool:
        """Whether betting has ended, for good."""
        return self.status != SCHEDULED or self.starts_at_us <= now_us

    def next_step(self, now_us: int) -> FixtureStep | None:
        """The step that is due, if any."""
        if self.aside_until_us > now_us:
            return None
        if self.status == SCHEDULED:
            return self._step_of_scheduled(now_us)
        if self.status == STARTED:
            return FixtureStep.FINISH if self.goals is not None else None
        return FixtureStep.SETTLE

    def to_list(self) -> dict[int, Listed]:
        """The markets as the catalogue should have them: those offered now and those that once were."""
        closes_at_us = self.starts_at_us
        before = {id_: market._replace(closes_at_us=closes_at_us) for id_, market in self.listed.items()}
        offered = {id_: Listed(each.kind, each.line_quarters, closes_at_us) for id_, each in self.markets.items()}
        return before | offered

    def _step_of_scheduled(self, now_us: int) -> FixtureStep | None:
        if self.starts_at_us > now_us:
            differs = self.listed_start_us != self.starts_at_us or self.listed != self.to_list()
            return FixtureStep.LIST if differs else None
        if self.listed_start_us is None:
            return None
        # Brought forward: the catalogue still believes that betting goes on.
        return FixtureStep.LIST if self.listed_start_us > now_us else FixtureStep.START


def event_id(source_id: str) -> int:
    """Our id of an event of the source: the same in every run."""
    return identity.provider_event_id(PROVIDER, source_id)


def new(event: SourceEvent) -> Fixture:
    """A fixture that is seen for the first time."""
    made = Fixture(
        event_id=event_id(event.source_id),
        sport_key=event.sport_key,
        league=event.league,
        home=event.home,
        away=event.away,
        starts_at_us=event.starts_at_us,
        expected_us=event.starts_at_us,
    )
    offer(made, event)
    return made


def known(event: event_pb2.Event, league: str) -> Fixture:
    """A fixture as the catalogue has it: what a restarted feed begins with."""
    finished = event.status == FINISHED
    return Fixture(
        event_id=event.event_id,
        sport_key=event.league_id,
        league=league,
        home=event.home,
        away=event.away,
        starts_at_us=event.starts_at_us,
        expected_us=event.starts_at_us,
        status=int(event.status),
        listed_start_us=event.starts_at_us,
        listed={
            market.market_id: Listed(int(market.kind), market.line_quarters, market.closes_at_us)
            for market in event.markets
        },
        goals=(event.home_goals, event.away_goals) if finished else None,
    )


def as_known(fixture: Fixture, event: SourceEvent) -> SourceEvent | None:
    """The event with the fixture's sides first and second; None if it has other sides."""
    for told in (event, turned(event)):
        if (told.home, told.away) == _sides(fixture):
            return told
    return None


def goals_as_known(fixture: Fixture, score: SourceScore) -> tuple[int, int] | None:
    """The score in the order of the fixture's sides; None if it is of other sides."""
    if (score.home, score.away) == _sides(fixture):
        return score.home_goals, score.away_goals
    if (score.away, score.home) == _sides(fixture):
        return score.away_goals, score.home_goals
    return None


def result_from_us(fixture: Fixture, starts_at_us: int) -> int:
    """The earliest moment at which a result of a match that begins then is believed."""
    sport = fixture.sport_key.partition("_")[0]
    return starts_at_us + SHORTEST_MATCH_MIN.get(sport, SHORTEST_MATCH_OTHER_MIN) * 60 * US_PER_S


def offer(fixture: Fixture, event: SourceEvent) -> int:
    """Takes over what is offered now; how many new lines were left out. What is offered no more is kept, absent."""
    present, left_out = set(), 0
    for market in event.markets:
        id_ = identity.market_id(fixture.event_id, market.kind, market.line_quarters)
        if id_ not in fixture.markets and len(fixture.markets) >= MARKETS_MAX:
            left_out += 1
            continue
        fixture.markets[id_] = market
        present.add(id_)
    fixture.present = frozenset(present)
    return left_out


def _sides(fixture: Fixture) -> tuple[str, str]:
    """Who plays. The catalogue may have their names from before names were folded."""
    return folded(fixture.home), folded(fixture.away)
