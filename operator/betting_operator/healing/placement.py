"""Where shards should be: by fewest moves, on who can own them. Built on the placement that instances share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Set
from dataclasses import dataclass

from betting.life import Life
from betting.placement import Candidate, place
from betting_operator.healing import rebalancing
from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.evidence import Evidence, beat_silent_ms
from betting_operator.healing.policy import Policy, Rebalancing
from betting_operator.healing.signals import BET_SERVICE, Answer, Observation, Owner, Phase, Shard

_MOVABLE = ("free", "owned")
# Hand-overs under way to one receiver. Owners hand over in groups of their own measure, several of them between two
# ticks, about 120 shards in half a second on two idle cores: this keeps them at work.
MOVES_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class Placement:
    """eligible: who can own shards; unowned: where shards go that have no live owner; moves: planned hand-overs.

    asked: how far the plan is that people asked for, "" without one. held: why nothing is moved for balance although
    something should be, "" where nothing is.
    """

    eligible: tuple[Life, ...] = ()
    unowned: tuple[tuple[int, Life], ...] = ()
    moves: tuple[tuple[int, Life], ...] = ()
    asked: str = ""
    held: str = ""


def look(
    seen: Observation, evidence: Evidence, dead: Collection[Life], refusing: Collection[Life], policy: Policy
) -> Placement | None:
    """What has to change. dead: owners known to be dead or hung, whatever the directory says; refusing: those that take
    none of the shards released for them, which get some only if nobody else can own. None: cannot tell.
    """
    if seen.owners is None or seen.shards is None or evidence.database_since_ms is None:
        return None
    alive = {owner.life: owner for owner in seen.owners if not owner.exited and owner.life not in dead}
    eligible = sorted(life for life, owner in alive.items() if _is_eligible(owner, seen.at_ms, evidence, policy))
    eligible = [life for life in eligible if life not in refusing] or eligible
    if not eligible:
        return Placement()
    emptied = () if seen.rebalance is None else seen.rebalance.emptied
    takers = [life for life in eligible if life.instance not in emptied] or eligible
    wanted = _wanted(seen.shards, [alive[life] for life in takers])
    movable = [shard for shard in seen.shards if shard.state in _MOVABLE]
    unowned = tuple(
        (shard.shard, wanted[shard.shard])
        for shard in movable
        if _is_unowned(shard, alive) and shard.desired_owner != wanted[shard.shard]
    )
    passed_over = {*refusing, *eligible} - set(takers)
    taking = frozenset(takers)
    settled = [shard for shard in movable if shard.owner in taking]
    undone = tuple((shard.shard, wanted[shard.shard]) for shard in settled if shard.desired_owner in passed_over)
    balance = _moves([shard for shard in settled if shard.desired_owner not in passed_over], taking, wanted)
    held = _why_no_balance(seen, policy)
    asked, begun = _asked(seen, movable, [life for life, owner in alive.items() if not owner.draining], takers)
    return Placement(
        tuple(eligible),
        unowned,
        (*undone, *(() if unowned else begun), *(() if held else balance)),
        asked,
        held if balance else "",
    )


def _asked(
    seen: Observation, movable: Collection[Shard], givers: Collection[Life], takers: Collection[Life]
) -> tuple[str, tuple[tuple[int, Life], ...]]:
    """How far the plan is that people asked for, and what of it begins now. What has no owner is placed first."""
    if seen.rebalance is None or not (waiting := rebalancing.waiting(seen.rebalance, movable)):
        return "", ()
    text = f"rebalance {seen.rebalance.name}: {len(waiting)} of {len(seen.rebalance.moves)} shards left to hand over"
    return text, rebalancing.begin(waiting, movable, givers, takers)


def _why_no_balance(seen: Observation, policy: Policy) -> str:
    """Why shards are not moved for balance by the healer's own plan; "" when they are."""
    if seen.rebalance is None:
        return "it is not known whether a rebalance is under way: no moves for balance meanwhile"
    if seen.rebalance.name:
        return f"rebalance {seen.rebalance.name} is under way: no other moves for balance meanwhile"
    if policy.rebalancing is Rebalancing.APPROVE:
        return "policy: moves for balance wait until a person approves them"
    return ""


def diagnose(where: Placement | None, seen: Observation) -> tuple[Diagnosis, ...]:
    """Shards that are not where they should be, or no bet-service that could own them."""
    if where is None:
        return ()
    if not where.eligible:
        starting = any(p.workload == BET_SERVICE and p.phase is Phase.STARTING for p in seen.processes or ())
        unsure = starting or seen.processes is None
        certainty = Certainty.SUSPECTED if unsure else Certainty.CONFIRMED
        evidence = ("no bet-service has a fresh heartbeat in Postgres", *(("one is starting",) if starting else ()))
        if answering := _answering(seen):
            evidence = (*evidence, f"{answering} of them answer their probes: their writes to Postgres fail or wait")
        return (Diagnosis(Kind.NOBODY_TO_OWN, BET_SERVICE, certainty, evidence),)
    if not where.unowned and not where.moves and not where.asked:
        return ()
    text = f"{len(where.unowned)} without an owner, {len(where.moves)} to hand over"
    texts = (text, where.asked) if where.asked else (text,)
    return (Diagnosis(Kind.SHARDS_MISPLACED, "shards", Certainty.CONFIRMED, texts),)


def _answering(seen: Observation) -> int:
    """Bet-services that could own shards and make progress by the healer's own probe: without heartbeats the cause
    is their path to Postgres, or what Postgres can write."""
    well = {p.life for p in seen.probes if p.answer is Answer.SERVING and not p.silent_ms}
    return sum(not owner.exited and not owner.draining and owner.life in well for owner in seen.owners or ())


def _is_eligible(owner: Owner, at_ms: int, evidence: Evidence, policy: Policy) -> bool:
    silent_ms = beat_silent_ms(evidence, owner, at_ms)
    return not owner.draining and silent_ms is not None and silent_ms < policy.silent_after_ms


def _wanted(shards: Collection[Shard], eligible: Collection[Owner]) -> dict[int, Life]:
    """By the rule that instances follow too, which knows lives by their text."""
    by_text = {str(owner.life): owner.life for owner in eligible}
    candidates = [Candidate(str(owner.life), owner.generation, owner.age_ms / 1_000) for owner in eligible]
    intended = {shard: str(life) for shard, life in _intended(shards, frozenset(by_text.values())).items()}
    return {shard: by_text[text] for shard, text in place(len(shards), candidates, intended).items()}


def _intended(shards: Collection[Shard], eligible: Set[Life]) -> dict[int, Life]:
    """Where every shard is on its way to: a hand-over under way counts as done, or each tick would plan it anew."""
    intended = {}
    for shard in shards:
        for life in (shard.desired_owner, shard.owner):
            if life is not None and life in eligible:
                intended[shard.shard] = life
                break
    return intended


def _is_unowned(shard: Shard, alive: dict[Life, Owner]) -> bool:
    """Nobody has it, or who has it is dead or draining."""
    owner = None if shard.owner is None else alive.get(shard.owner)
    return owner is None or owner.draining


def _moves(settled: Collection[Shard], takers: Set[Life], wanted: dict[int, Life]) -> tuple[tuple[int, Life], ...]:
    """Hand-overs between the living for balance, so many at once for each receiver. settled: shards of takers."""
    under_way = Counter(s.desired_owner for s in settled if s.desired_owner in takers and s.desired_owner != s.owner)
    moves = []
    for shard in settled:
        to = wanted[shard.shard]
        if to not in (shard.owner, shard.desired_owner) and under_way[to] < MOVES_AT_ONCE:
            under_way[to] += 1
            moves.append((shard.shard, to))
    return tuple(moves)
