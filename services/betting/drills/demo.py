"""The proof: faults under load on a fresh platform, then an audit of everything that was acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import grpc

from betting.audit import CannotAudit, Report, audit
from betting.drills import acks, availability, measure
from betting.drills.availability import AvailabilityProbe
from betting.drills.bettor_pool import BettorPool, betting_pool, gateway_of
from betting.drills.connect import ConnectClient
from betting.drills.faults import Fault
from betting.drills.measure import FaultResult, Window
from betting.drills.target import FEEDS, GATEWAY, RunTarget, Target
from betting.engine.entries import Kind
from betting.journal import reader, requests
from betting.supervision.errors import PlatformError
from betting.v1 import settlement_pb2, settlement_pb2_grpc

CALM_S = 1.5  # everything works, and every shard accepts bets, for this long, before the next fault
HEALING_MAX_S = 45.0
# The healer would have acted by then, if it could.
PERSON_S = 3.0
# How much longer than with the healer one waits for a platform without it, before a person repairs it.
PATIENCE = 1.5
PATIENCE_MIN_S = 8.0
SETTLED_S = 20.0
SETTLED_POLL_S = 0.2
POLL_S = 0.1
CALL_TIMEOUT_S = 3.0
DATABASE_TIMEOUT_S = 10.0
LOST_CHECK = "acknowledgements"
_CALLER = "betting-demo"
_EVENTS_SETTLED = "SELECT count(DISTINCT event_id) FROM settlement.settlements WHERE finished_at_us IS NOT NULL"


@dataclass(frozen=True)
class Skipped:
    """A fault that could not be injected there, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Result:
    """What the demo found."""

    outcomes: tuple[FaultResult, ...]
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
    skipped: tuple[Skipped, ...] = ()

    @property
    def acknowledged_lost(self) -> int:
        """Acknowledgements that the audit did not find in the journal as they were given."""
        return sum(each.problems for each in self.report.checks if each.name.startswith(LOST_CHECK))

    @property
    def holds(self) -> bool:
        """Nothing acknowledged was lost, each promise about money holds, all is whole in the end, bets were settled.

        A platform on which nothing was broken has proven nothing.
        """
        nothing_lost = self.acknowledged_lost == 0 and all(each.lost == 0 for each in self.outcomes)
        settled = self.bets_settled > 0 and self.unsettled == 0
        bet_on = self.bets_accepted > 0 and bool(self.outcomes)
        return self.report.holds and nothing_lost and self.whole and settled and bet_on

    @property
    def healed(self) -> bool:
        """Whether everything recovered after every fault without an operator, except where only an operator may act."""
        return all(each.healed_s is not None for each in self.outcomes)


def patience_s(outcome: FaultResult) -> float:
    """How long to wait for the same fault without the healer."""
    return max(PATIENCE_MIN_S, PATIENCE * (outcome.healed_s or HEALING_MAX_S))


async def demonstrate(
    run: RunTarget,
    folder: Path,
    faults: Sequence[Fault],
    note: Callable[[str], None],
    patience: Mapping[str, float] | None = None,
) -> Result:
    """Runs everything and stops the platform. Raises PlatformError when it cannot run here.

    folder: where the acknowledgements are written, once the platform runs. patience: by the fault's name, seconds until
    a person repairs what nobody has healed.
    """
    began_s = time.monotonic()
    acks_path = folder / "acknowledgements.jsonl"
    async with run(frozenset(each.needs for each in faults if each.needs is not None)) as target:
        async with acks.writing(acks_path) as ack_file, gateway_of(target) as client:
            seen = await _bet_through(target, client, ack_file, faults, note, patience or {})
        note("waiting for settlements …")
        unsettled = await finish_settlements(target, SETTLED_S)
        note(f"auditing {ack_file.written:,} acknowledgements …")
        report = await _audit(target, acks_path)
        acknowledged = [each.request_key for each in seen.pool.attempts if each.acknowledged]
        found = await gather_evidence(target.postgres_dsn, acknowledged)
        detected = measure.detections_s(target.ticks(), [each.fault_us for each in seen.windows])
    pool = seen.pool
    accepted = [each for each in pool.attempts if each.outcome == measure.ACCEPTED]
    return Result(
        outcomes=tuple(
            measure.judge(each, pool.attempts, pool.shards, found.missing, seen.signs.marks, detected_s)
            for each, detected_s in zip(seen.windows, detected, strict=True)
        ),
        bettors=pool.size,
        bets_accepted=len(accepted),
        bets_delayed=sum((each.answered_s or 0.0) - each.sent_s > measure.DELAYED_S for each in accepted),
        unanswered=Counter(each.problem for each in pool.attempts if each.outcome == measure.UNANSWERED),
        bets_settled=found.bets_settled,
        events_settled=found.events_settled,
        unsettled=unsettled,
        acks_written=ack_file.written,
        report=report,
        whole=seen.whole,
        took_s=time.monotonic() - began_s,
        skipped=tuple(seen.skipped),
    )


@dataclass(frozen=True)
class _Seen:
    """The data of a run: the bets, when each part worked, a window for each injected fault, and whether everything
    works at the end.
    """

    pool: BettorPool
    signs: AvailabilityProbe
    windows: list[Window]
    skipped: list[Skipped]
    whole: bool


async def _bet_through(
    target: Target,
    client: ConnectClient,
    ack_file: acks.AckFile,
    faults: Sequence[Fault],
    note: Callable[[str], None],
    patience: Mapping[str, float],
) -> _Seen:
    async with (
        betting_pool(target, client, ack_file, note) as pool,
        availability.watching(target, client, pool.somebody) as signs,
    ):
        scene = Scene(target, pool, signs, note)
        await scene.whole(HEALING_MAX_S)
        windows, skipped = await scene.break_all(faults, patience)
        whole = await scene.whole(HEALING_MAX_S)
    return _Seen(pool, signs, windows, skipped, whole)


@dataclass(frozen=True)
class Scene:
    """The running platform that faults are injected into."""

    target: Target
    pool: BettorPool
    signs: AvailabilityProbe
    note: Callable[[str], None]

    async def break_all(
        self, faults: Sequence[Fault], patience: Mapping[str, float]
    ) -> tuple[list[Window], list[Skipped]]:
        """Injects one fault after another; a fault that the platform under test does not support is skipped."""
        windows, skipped = [], []
        for fault in faults:
            why = self.target.lacks(fault.needs)
            if why:
                self.note(f"skipped: {fault.name}: {why}")
                skipped.append(Skipped(fault.name, why))
            else:
                windows.append(await self.break_(fault, patience.get(fault.name, HEALING_MAX_S)))
        return windows, skipped

    async def break_(self, fault: Fault, patience_s: float) -> Window:
        """Injects one fault and waits until everything works again; after `patience_s` it is repaired by hand."""
        self.note(f"fault: {fault.name}")
        fault_s, fault_us = time.monotonic(), time.time_ns() // 1_000
        await fault.inject(self.target)
        if not await self._felt(fault, fault_s):
            self.note("  it was not felt")
        if fault.by_hand:
            healed = await self._left_to_a_person(fault)
        else:
            healed = await self.whole(patience_s - (time.monotonic() - fault_s))
        window = Window(fault.name, fault_s, time.monotonic(), fault.budget_s, fault.part, fault_us, fault.by_hand)
        outcome = measure.judge(window, self.pool.attempts, self.pool.shards, marks=self.signs.marks)
        self.note(f"  worst shard {_after(outcome.worst_s)}, all whole {_after(outcome.healed_s)}")
        if not healed:
            self.note(
                f"  not whole after {patience_s:.0f} s ({', '.join(self.signs.wrong) or 'bets'}): a person repairs it"
            )
            if fault.repair is not None:
                await fault.repair(self.target)
            await self.whole(HEALING_MAX_S)
        return window

    async def _left_to_a_person(self, fault: Fault) -> bool:
        """Repairs by hand, a while later, what the healer may not repair."""
        await asyncio.sleep(PERSON_S)
        self.note(f"  not whole ({', '.join(self.signs.wrong) or 'bets'}): only a person may put it right, and does")
        assert fault.repair is not None, "who breaks what nobody heals knows how it is repaired"
        await fault.repair(self.target)
        return await self.whole(HEALING_MAX_S)

    async def _felt(self, fault: Fault, fault_s: float) -> bool:
        """Waits until a slow fault has an effect. Returns False if it should have one, and has none."""
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
        return all(now_s - at_s < measure.DELAYED_S for at_s in self.pool.last_accepted_s())


def _after(seconds: float | None) -> str:
    return "did not come back" if seconds is None else f"after {seconds:.2f} s"


async def finish_settlements(target: Target, timeout_s: float) -> int:
    """Stops bets and feeds, then waits until no settlement is pending. Returns how many still are."""
    await target.stop((GATEWAY, *FEEDS))
    deadline = time.monotonic() + timeout_s
    async with grpc.aio.insecure_channel(target.address("settlement-service")) as channel:
        pending = await _pending(target, channel)
        while pending and time.monotonic() < deadline:
            await asyncio.sleep(SETTLED_POLL_S)
            pending = await _pending(target, channel)
    return pending


async def _pending(target: Target, channel: grpc.aio.Channel) -> int:
    call = settlement_pb2_grpc.SettlementServiceStub(channel).ListPendingSettlements
    request = settlement_pb2.ListPendingSettlementsRequest(page_size=500)
    metadata = tuple(target.credentials(_CALLER))
    try:
        return len((await call(request, timeout=CALL_TIMEOUT_S, metadata=metadata)).settlements)
    except grpc.aio.AioRpcError:
        return 1  # cannot tell: ask again


@dataclass(frozen=True)
class Evidence:
    """What the journal says afterwards. missing: request keys that were acknowledged and are not in the journal."""

    missing: frozenset[str]
    bets_settled: int
    events_settled: int


async def gather_evidence(dsn: str, acknowledged: Collection[str]) -> Evidence:
    """Asks the database. Raises PlatformError when it does not answer."""
    try:
        connection = await asyncpg.connect(dsn, timeout=DATABASE_TIMEOUT_S, command_timeout=DATABASE_TIMEOUT_S)
        try:
            missing = await requests.missing(connection, acknowledged)
            bets = await reader.count_of_kind(connection, Kind.BET_SETTLED)
            events = await connection.fetchval(_EVENTS_SETTLED)
        finally:
            await connection.close(timeout=DATABASE_TIMEOUT_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise PlatformError(f"The journal could not be read after the demo: {error}") from error
    return Evidence(missing, bets, events)


async def _audit(target: Target, acks_path: Path) -> Report:
    try:
        return await audit(target.postgres_dsn, acks_path)
    except CannotAudit as error:
        raise PlatformError(f"The audit could not run: {error}") from error
