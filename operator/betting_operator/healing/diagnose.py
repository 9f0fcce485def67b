"""From what was seen to what it means. Pure; every rule says which evidence it rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.evidence import (
    Evidence,
    answered_ms_ago,
    beat_silent_ms,
    callers_silent_ms,
    healer_silent_ms,
    platform_silent_ms,
)
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Database, Exit, Observation, Owner, Phase, Process
from betting_operator.healing.standstill import Standstills, stuck

BET_SERVICE = "bet-service"
SHARED_OF_SERVICE_MIN = 2
SHARED_OF_ALL_MIN = 3
_SHARE = 1 / 3
# An answer to a caller this recent, as a part of the silence asked for, contradicts probes that met none.
_FRESH = 1 / 2


def diagnose(
    seen: Observation,
    evidence: Evidence,
    exits: Sequence[Exit],
    own_exits: Sequence[Exit],
    standstills: Standstills,
    policy: Policy,
) -> tuple[Diagnosis, ...]:
    """Everything concluded from one tick. exits: those of the window; own_exits: but those that the healer caused."""
    return (
        *_died(seen, exits),
        *_hung(seen, evidence, policy),
        *_crash_loops(own_exits, policy),
        *_directory(seen),
        *_database(seen),
        *_feeds(seen, policy),
        *stuck(standstills, seen, policy),
        *_host(seen, policy),
    )


def owner_name(process: Process) -> str:
    """How the directory names this life."""
    return f"{process.instance}@{process.boot_id}"


def _died(seen: Observation, exits: Sequence[Exit]) -> Iterable[Diagnosis]:
    ended = {f"{each.instance}@{each.boot_id}": each for each in exits}
    for owner in seen.owners or ():
        if owner.name in ended and not owner.exited:
            yield Diagnosis(Kind.OWNER_DIED, owner.name, Certainty.CONFIRMED, (f"exit seen: {ended[owner.name].how}",))
    for process in seen.processes or ():
        if process.phase is Phase.DOWN and process.service != BET_SERVICE:
            yield Diagnosis(Kind.PROCESS_DIED, process.instance, Certainty.CONFIRMED, ("exit seen",))


def _hung(seen: Observation, evidence: Evidence, policy: Policy) -> Iterable[Diagnosis]:
    running = [process for process in seen.processes or () if process.phase is Phase.RUNNING]
    owners = {owner.name: owner for owner in seen.owners or ()}
    found = [_silence(process, owners.get(owner_name(process)), seen, evidence, policy) for process in running]
    suspects = [process for process, each in zip(running, found, strict=True) if each is not None]
    shared = _shared(running, suspects)
    for process, each in zip(running, found, strict=True):
        if each is None:
            continue
        if process.service in shared:
            yield _cannot_tell(each, f"{shared[process.service]} silent at once")
        else:
            yield each
    if shared:
        texts = tuple(f"{service}: {text}" for service, text in sorted(shared.items()))
        yield Diagnosis(Kind.SHARED_CAUSE, "platform", Certainty.CONFIRMED, texts)


def _silence(
    process: Process, owner: Owner | None, seen: Observation, evidence: Evidence, policy: Policy
) -> Diagnosis | None:
    """What the vantage points say of one life; None: nobody complains."""
    limit = policy.silent_after_ms
    healer = healer_silent_ms(evidence, seen, process)
    platform = platform_silent_ms(evidence, process, seen.at_ms)
    beat = beat_silent_ms(evidence, owner, seen.at_ms) if owner is not None else None
    probes = [f"{name} unanswered for {ms} ms" for name, ms in _over(limit, healer=healer, platform=platform)]
    beats = [f"no beat in Postgres for {beat} ms"] if beat is not None and beat >= limit else []
    waited = callers_silent_ms(evidence, seen, process)
    callers = [f"callers without an answer for {waited} ms"] if waited >= limit else []
    silent = (*probes, *callers, *beats)
    if not probes and not callers:  # a missing beat alone is the way to Postgres
        return None
    found = Diagnosis(Kind.PROCESS_HUNG, process.instance, Certainty.SUSPECTED, silent, process.boot_id)
    if beat is not None and not beats:
        return _cannot_tell(found, f"it beat {beat} ms ago")
    answered = answered_ms_ago(seen, process)
    if answered is not None and answered < limit * _FRESH:
        return _cannot_tell(found, f"it answered a caller {answered} ms ago")
    # Callers and beat alone may both be waiting for Postgres, unless others' beats arrive there.
    if len(silent) >= 2 and (probes or _others_beat(seen, owner, limit)):
        return Diagnosis(Kind.PROCESS_HUNG, process.instance, Certainty.CONFIRMED, silent, process.boot_id)
    return found


def _others_beat(seen: Observation, owner: Owner | None, limit: int) -> bool:
    return any(o.beat_age_ms < limit and not o.exited and o != owner for o in seen.owners or ())


def _over(limit: int, **silent_ms: int) -> list[tuple[str, int]]:
    return [(f"{name}'s probe", ms) for name, ms in silent_ms.items() if ms >= limit]


def _cannot_tell(found: Diagnosis, why: str) -> Diagnosis:
    return Diagnosis(found.kind, found.target, Certainty.CANNOT_TELL, (*found.evidence, f"but {why}"), found.boot_id)


def _shared(running: Sequence[Process], suspects: Sequence[Process]) -> dict[str, str]:
    """Services of which too many are suspect at once, or all of them when the whole platform is."""
    all_of, silent_of = Counter(p.service for p in running), Counter(p.service for p in suspects)
    if len(suspects) >= SHARED_OF_ALL_MIN and len(suspects) > len(running) * _SHARE:
        return dict.fromkeys(silent_of, f"{len(suspects)} of {len(running)} processes")
    return {
        service: f"{count} of {all_of[service]} instances"
        for service, count in silent_of.items()
        if count >= SHARED_OF_SERVICE_MIN and count > all_of[service] * _SHARE
    }


def _crash_loops(exits: Sequence[Exit], policy: Policy) -> Iterable[Diagnosis]:
    for instance, count in sorted(Counter(each.instance for each in exits).items()):
        if count >= policy.restarts_max:
            text = f"{count} exits in {policy.window_ms // 1000} s"
            yield Diagnosis(Kind.CRASH_LOOP, instance, Certainty.CONFIRMED, (text,))


def _directory(seen: Observation) -> Iterable[Diagnosis]:
    for shard in seen.shards or ():
        if shard.state in ("frozen", "quarantined"):
            evidence = (f"{shard.state}: {shard.reason}",)
            yield Diagnosis(Kind.SHARD_STOPPED, f"shard {shard.shard}", Certainty.CONFIRMED, evidence)


def _database(seen: Observation) -> Iterable[Diagnosis]:
    if seen.database is not Database.OK:
        yield Diagnosis(Kind.DATABASE_AWAY, "postgres", Certainty.CONFIRMED, (seen.database.value,))


def _feeds(seen: Observation, policy: Policy) -> Iterable[Diagnosis]:
    boots = {process.instance: process.boot_id for process in seen.processes or () if process.phase is Phase.RUNNING}
    for feed in seen.feeds or ():
        if feed.silent_ms >= policy.feed_silent_ms:
            text = f"silent for {feed.silent_ms} ms" + (", its markets are suspended" if feed.suspended else "")
            target, boot_id = feed.instance or feed.producer, boots.get(feed.instance, "")
            yield Diagnosis(Kind.FEED_SILENT, target, Certainty.CONFIRMED, (text,), boot_id)


def _host(seen: Observation, policy: Policy) -> Iterable[Diagnosis]:
    if seen.host is None:
        return
    free, offset = seen.host.disk_free_bytes, seen.host.clock_offset_ms
    if free < policy.disk_free_bytes_min:
        yield Diagnosis(Kind.DISK_FULL, "disk", Certainty.CONFIRMED, (f"{free // 2**20} MiB free",))
    if abs(offset) > policy.clock_offset_ms_max:
        yield Diagnosis(Kind.CLOCK_OFF, "clock", Certainty.CONFIRMED, (f"{offset} ms off the database's",))
