"""Where shards should be: by fewest moves, on who can own them. Built on the placement that instances share."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from betting.placement import place
from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.evidence import Evidence, beat_silent_ms
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Observation, Owner, Phase, Shard

BET_SERVICE = "bet-service"
_MOVABLE = ("free", "owned")


@dataclass(frozen=True, slots=True)
class Placement:
    """able: who can own shards; homeless: where shards go that nobody alive has; moves: planned hand-overs."""

    able: tuple[str, ...] = ()
    homeless: tuple[tuple[int, str], ...] = ()
    moves: tuple[tuple[int, str], ...] = ()


def look(seen: Observation, evidence: Evidence, gone: Collection[str], policy: Policy) -> Placement | None:
    """What has to change. gone: owners known to be dead or hung, whatever the directory says. None: cannot tell."""
    if seen.owners is None or seen.shards is None or evidence.database_since_ms is None:
        return None
    alive = {owner.name: owner for owner in seen.owners if not owner.exited and owner.name not in gone}
    able = sorted(name for name, owner in alive.items() if _is_able(owner, seen.at_ms, evidence, policy))
    if not able:
        return Placement()
    wanted = place(len(seen.shards), able, _intended(seen.shards, able))
    movable = [shard for shard in seen.shards if shard.state in _MOVABLE]
    homeless = tuple(
        (shard.shard, wanted[shard.shard])
        for shard in movable
        if _is_homeless(shard, alive) and shard.desired_owner != wanted[shard.shard]
    )
    return Placement(tuple(able), homeless, _moves(movable, able, wanted))


def diagnose(where: Placement | None, seen: Observation) -> tuple[Diagnosis, ...]:
    """Shards that are not where they should be, or nobody who could own them."""
    if where is None:
        return ()
    if not where.able:
        starting = any(p.service == BET_SERVICE and p.phase is Phase.STARTING for p in seen.processes or ())
        unsure = starting or seen.processes is None
        certainty = Certainty.SUSPECTED if unsure else Certainty.CONFIRMED
        evidence = ("no owner beats", "one is starting") if starting else ("no owner beats",)
        return (Diagnosis(Kind.NOBODY_TO_OWN, BET_SERVICE, certainty, evidence),)
    if not where.homeless and not where.moves:
        return ()
    text = f"{len(where.homeless)} without an owner, {len(where.moves)} to hand over"
    return (Diagnosis(Kind.SHARDS_MISPLACED, "shards", Certainty.CONFIRMED, (text,)),)


def _is_able(owner: Owner, at_ms: int, evidence: Evidence, policy: Policy) -> bool:
    silent_ms = beat_silent_ms(evidence, owner, at_ms)
    return not owner.draining and silent_ms is not None and silent_ms < policy.silent_after_ms


def _intended(shards: Collection[Shard], able: Collection[str]) -> dict[int, str]:
    """Where every shard is on its way to: a hand-over under way counts as done, or each tick would plan it anew."""
    intended = {}
    for shard in shards:
        for name in (shard.desired_owner, shard.owner):
            if name is not None and name in able:
                intended[shard.shard] = name
                break
    return intended


def _is_homeless(shard: Shard, alive: dict[str, Owner]) -> bool:
    """Nobody has it, or who has it is gone or leaving."""
    owner = alive.get(shard.owner or "")
    return owner is None or owner.draining


def _moves(shards: Collection[Shard], able: Collection[str], wanted: dict[int, str]) -> tuple[tuple[int, str], ...]:
    """Hand-overs between the living, one at a time for each receiver."""
    settled = [shard for shard in shards if shard.owner in able]
    busy = {s.desired_owner for s in settled if s.desired_owner in able and s.desired_owner != s.owner}
    moves = []
    for shard in settled:
        to = wanted[shard.shard]
        if to not in (shard.owner, shard.desired_owner) and to not in busy:
            busy.add(to)
            moves.append((shard.shard, to))
    return tuple(moves)
