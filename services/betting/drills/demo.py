"""The proof: faults under load on a fresh platform, then an audit of everything that was acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from betting.audit import CannotAudit, Report, audit
from betting.drills import acks, evidence, flights, measure, settling, vitals
from betting.drills.bettors import Desk
from betting.drills.catalogue import Catalogue
from betting.drills.connect import CallFailed, ConnectClient
from betting.drills.crowd import Crowd, gather_bettors
from betting.drills.faults import Fault
from betting.drills.flights import ReadTicks
from betting.drills.measure import Outcome, Window
from betting.drills.vitals import Vitals
from betting.embedded.platform import Options, Platform, running
from betting.embedded.topology import SHARD_COUNT
from betting.supervision.errors import LocalError
from betting.supervision.supervisor import Progress

OPENING_S = 20.0  # at most, for the season's first markets to open
JOINING_S = 90.0  # at most, for all bettors to register and pay in
WARM_UP_S = 2.0
CALM_S = 1.5  # everything works, and every shard accepts bets, for this long, before the next fault
HEALING_MAX_S = 45.0
# The healer would have acted by then, if it could.
PERSON_S = 3.0
# How much longer than with the healer one waits for a platform without it, before a person repairs it.
PATIENCE = 1.5
PATIENCE_MIN_S = 8.0
ANSWERS_S = 15.0
BETTING_MAX_S = 600.0  # bounds how long any bet is repeated, should everything hang
SETTLED_S = 20.0
POLL_S = 0.1
LOST_CHECK = "acknowledgements"


@dataclass(frozen=True)
class Result:
    """What the demo found."""

    outcomes: tuple[Outcome, ...]
    bettors: int
    bets_accepted: int
    bets_delayed: int
    unanswered: Counter[str]  # by what the latest try met
    bets_settled: int
    events_settled: int
    unsettled: int
    acks_written: int
    report: Report
    whole: bool
    took_s: float

    @property
    def acknowledged_lost(self) -> int:
        """Acknowledgements that the audit did not find in the journal as they were given."""
        return sum(each.problems for each in self.report.checks if each.name.startswith(LOST_CHECK))

    @property
    def holds(self) -> bool:
        """Nothing acknowledged was lost, each promise about money holds, all is whole in the end, bets were settled."""
        nothing_lost = self.acknowledged_lost == 0 and all(each.lost == 0 for each in self.outcomes)
        settled = self.bets_settled > 0 and self.unsettled == 0
        return self.report.holds and nothing_lost and self.whole and settled and self.bets_accepted > 0

    @property
    def healed(self) -> bool:
        """Whether everything came back after every fault, with nobody's help but where only a person may."""
        return all(each.healed_s is not None for each in self.outcomes)


def patience_s(outcome: Outcome) -> float:
    """How long to wait for the same fault without the healer."""
    return max(PATIENCE_MIN_S, PATIENCE * (outcome.healed_s or HEALING_MAX_S))


async def demonstrate(
    options: Options,
    faults: Sequence[Fault],
    progress: Progress,
    note: Callable[[str], None],
    read_ticks: ReadTicks,
    patience: Mapping[str, float] | None = None,
) -> Result:
    """Runs everything and stops the platform. Raises LocalError when it cannot run here.

    patience: by the fault's name, seconds until a person repairs what nobody has healed.
    """
    began_s = time.monotonic()
    acks_path = options.folder.path / "acknowledgements.jsonl"
    async with running(options, progress, note) as platform:
        async with acks.writing(acks_path) as ack_file, gateway_of(platform) as client:
            crowd, signs, windows, whole = await _bet_through(platform, client, ack_file, faults, note, patience or {})
        note("waiting for settlements …")
        unsettled = await settling.finish(platform, SETTLED_S)
        note(f"auditing {ack_file.written:,} acknowledgements …")
        report = await _audit(platform, acks_path)
        told = [each.request_key for each in crowd.attempts if each.acknowledged]
        found = await evidence.gather(platform.topology.postgres.dsn(), told)
        detected = flights.detections_s(read_ticks(), [each.fault_us for each in windows])
    accepted = [each for each in crowd.attempts if each.outcome == measure.ACCEPTED]
    return Result(
        outcomes=tuple(
            measure.judge(each, crowd.attempts, crowd.shards, found.missing, signs.marks, detected_s)
            for each, detected_s in zip(windows, detected, strict=True)
        ),
        bettors=crowd.size,
        bets_accepted=len(accepted),
        bets_delayed=sum((each.answered_s or 0.0) - each.sent_s > measure.DELAYED_S for each in accepted),
        unanswered=Counter(each.problem for each in crowd.attempts if each.outcome == measure.UNANSWERED),
        bets_settled=found.bets_settled,
        events_settled=found.events_settled,
        unsettled=unsettled,
        acks_written=ack_file.written,
        report=report,
        whole=whole,
        took_s=time.monotonic() - began_s,
    )


@asynccontextmanager
async def gateway_of(platform: Platform) -> AsyncIterator[ConnectClient]:
    """A client of the platform's gateway."""
    connector = aiohttp.TCPConnector(limit=0)  # the crowd bounds what is in flight
    async with aiohttp.ClientSession(connector=connector) as session:
        yield ConnectClient(session, f"http://{platform.topology.http_address()}")


async def _bet_through(
    platform: Platform,
    client: ConnectClient,
    ack_file: acks.AckFile,
    faults: Sequence[Fault],
    note: Callable[[str], None],
    patience: Mapping[str, float],
) -> tuple[Crowd, Vitals, list[Window], bool]:
    """The bets, what worked when, a window for each fault, and whether all was whole at the end."""
    async with (
        betting_crowd(platform, client, ack_file, note) as crowd,
        vitals.watching(platform, client, crowd.somebody) as signs,
    ):
        scene = _Scene(platform, crowd, signs, note)
        await scene.whole(HEALING_MAX_S)
        windows = [await scene.break_(fault, patience.get(fault.name, HEALING_MAX_S)) for fault in faults]
        whole = await scene.whole(HEALING_MAX_S)
    return crowd, signs, windows, whole


@asynccontextmanager
async def betting_crowd(
    platform: Platform,
    client: ConnectClient,
    ack_file: acks.AckFile,
    note: Callable[[str], None],
    pace: float = 1.0,
) -> AsyncIterator[Crowd]:
    """Bettors with money on every shard, at work for the length of a block; then their last answers are waited for.

    pace: how many times as often as usual each shard sees a bet. Raises LocalError when they cannot begin.
    """
    catalogue = Catalogue(client)
    await _opened(catalogue)
    note(f"{catalogue.events} events to bet on")
    desk = Desk(client, ack_file)
    try:
        bettors = await gather_bettors(client, desk, SHARD_COUNT, time.monotonic() + JOINING_S)
    except CallFailed as error:
        raise LocalError(
            f"The bettors could not register and pay in ({error}): see the logs in the data folder."
        ) from error
    note(f"{len(bettors)} bettors on {SHARD_COUNT} shards")
    crowd = Crowd(desk, catalogue, bettors, answers_until_s=time.monotonic() + BETTING_MAX_S, pace=pace)
    background = [asyncio.create_task(catalogue.keep_fresh()), asyncio.create_task(crowd.keep_betting())]
    try:
        await asyncio.sleep(WARM_UP_S)
        yield crowd
    except BaseException:
        await crowd.answers(0.0)
        raise
    finally:
        for task in background:
            task.cancel()
        await asyncio.wait(background)
    await crowd.answers(ANSWERS_S)


async def _opened(catalogue: Catalogue) -> None:
    deadline = time.monotonic() + OPENING_S
    while not catalogue.events:
        if time.monotonic() > deadline:
            raise LocalError(
                f"No market opened within {OPENING_S:.0f} s: see logs/season-replay.log in the data folder."
            )
        await catalogue.refresh()
        await asyncio.sleep(POLL_S)


@dataclass(frozen=True)
class _Scene:
    """Where faults are injected."""

    platform: Platform
    crowd: Crowd
    signs: Vitals
    note: Callable[[str], None]

    async def break_(self, fault: Fault, patience_s: float) -> Window:
        """Injects one fault and waits until all is whole again; after `patience_s` a person repairs it."""
        self.note(f"fault: {fault.name}")
        fault_s, fault_us = time.monotonic(), time.time_ns() // 1_000
        await fault.inject(self.platform)
        if not await self._felt(fault, fault_s):
            self.note("  it was not felt")
        if fault.by_hand:
            healed = await self._left_to_a_person(fault)
        else:
            healed = await self.whole(patience_s - (time.monotonic() - fault_s))
        window = Window(fault.name, fault_s, time.monotonic(), fault.budget_s, fault.part, fault_us, fault.by_hand)
        outcome = measure.judge(window, self.crowd.attempts, self.crowd.shards, marks=self.signs.marks)
        self.note(f"  worst shard {_after(outcome.worst_s)}, all whole {_after(outcome.healed_s)}")
        if not healed:
            self.note(
                f"  not whole after {patience_s:.0f} s ({', '.join(self.signs.wrong) or 'bets'}): a person repairs it"
            )
            if fault.repair is not None:
                await fault.repair(self.platform)
            await self.whole(HEALING_MAX_S)
        return window

    async def _left_to_a_person(self, fault: Fault) -> bool:
        """What the healer may not put right is put right by hand, a while later."""
        await asyncio.sleep(PERSON_S)
        self.note(f"  not whole ({', '.join(self.signs.wrong) or 'bets'}): only a person may put it right, and does")
        assert fault.repair is not None, "who breaks what nobody heals knows how it is repaired"
        await fault.repair(self.platform)
        return await self.whole(HEALING_MAX_S)

    async def _felt(self, fault: Fault, fault_s: float) -> bool:
        """Waits until a fault that works slowly shows; False if it should have, and does not."""
        deadline = fault_s + fault.felt_within_s
        while fault.part not in self.signs.wrong and time.monotonic() < deadline:  # noqa: ASYNC110 - asked for anyway
            await asyncio.sleep(POLL_S)
        return not fault.felt_within_s or fault.part in self.signs.wrong

    async def whole(self, within_s: float) -> bool:
        """Waits until everything works, and has for a moment; False when it does not in time."""
        deadline = time.monotonic() + within_s
        calm_since_s: float | None = None
        while time.monotonic() < deadline:
            now_s = time.monotonic()
            if self.signs.wrong or not self._bets_flow(now_s):
                calm_since_s = None
            elif calm_since_s is None:
                calm_since_s = now_s
            elif now_s - calm_since_s >= CALM_S:
                return True
            await asyncio.sleep(POLL_S)
        return False

    def _bets_flow(self, now_s: float) -> bool:
        return all(now_s - at_s < measure.DELAYED_S for at_s in self.crowd.last_accepted_s())


def _after(seconds: float | None) -> str:
    return "did not come back" if seconds is None else f"after {seconds:.2f} s"


async def _audit(platform: Platform, acks_path: Path) -> Report:
    try:
        return await audit(platform.topology.postgres.dsn(), acks_path)
    except CannotAudit as error:
        raise LocalError(f"The audit could not run: {error}") from error
