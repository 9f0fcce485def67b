"""From the observed state of Redis to diagnoses: which lives have ended; which node is hung, unreachable or full."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from betting.life import Life
from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.evidence import Evidence, platform_silent_ms
from betting_operator.healing.policy import Policy
from betting_operator.healing.redis_signals import LINKED_MS, FailoverPhase, Redis, RedisNode, RedisRole
from betting_operator.healing.signals import Exit, Observation, Phase, Process

FULL_PERCENT = 90
# It is pinged every second; on a busy machine a ping may be late. A full copy takes a second or two.
UNHEARD_MS = 5_000
UNLINKED_MS = 10_000


def life_over(seen: Observation, redis: Redis, exits: Iterable[Exit], life: Life) -> str:
    """How it is known that a life has ended, "" while it is not: its exit, or a later life that answers now.

    The platform's inventory alone is no proof: it may be older than the record.
    """
    for each in exits:
        if each.life == life:
            return f"exit seen: {each.how}"
    node = redis.node(life.instance)
    if node.answers and node.fresh and node.life != life:
        return "a later life of it answers"
    return ""


def process_of(seen: Observation, name: str) -> Process | None:
    """The process of a node; None: not known."""
    return next((process for process in seen.processes or () if process.instance == name), None)


def primary(
    seen: Observation, redis: Redis, evidence: Evidence, exits: Sequence[Exit], policy: Policy, *, shared: bool
) -> Diagnosis | None:
    """The diagnosis of the recorded primary; None: no complaint. shared: many are silent at once."""
    name, life = redis.record.primary, redis.record.life
    over = life_over(seen, redis, exits, life)
    if over:
        return Diagnosis(Kind.REDIS_PRIMARY_GONE, name, Certainty.CONFIRMED, (over,), life)
    silent = _silences(seen, redis.node(name), life, evidence, policy.silent_after_ms)
    if not silent:
        return None
    heard = _word_of_replicas(redis)
    cut_off = [f"{replica} has not heard from it for {ms} ms" for replica, ms in heard if ms >= policy.silent_after_ms]
    linked = [f"{replica} heard from it {ms} ms ago" for replica, ms in heard if ms <= LINKED_MS]
    return _hung(Kind.REDIS_PRIMARY_HUNG, name, life, (*silent, *cut_off), linked, shared=shared)


def others(
    seen: Observation, redis: Redis, evidence: Evidence, policy: Policy, *, shared: bool
) -> Iterable[tuple[RedisNode, Diagnosis]]:
    """What is wrong with those that should follow the primary."""
    for node in redis.others:
        process = process_of(seen, node.name)
        if process is not None and process.phase is Phase.DOWN:
            yield node, Diagnosis(Kind.REDIS_REPLICA_AWAY, node.name, Certainty.CONFIRMED, ("exit seen",))
            continue
        life = process.life if process is not None else node.life
        silent = _silences(seen, node, life, evidence, policy.silent_after_ms)
        if silent:
            yield node, _hung(Kind.REDIS_REPLICA_AWAY, node.name, life, silent, [], shared=shared)
        elif _is_unlinked(node, redis, seen.at_ms - evidence.since_ms):
            yield node, _unlinked(node, redis.record.primary, seen.at_ms - evidence.since_ms)


def full(redis: Redis) -> Iterable[Diagnosis]:
    """Nodes whose memory is nearly used up: the primary refuses writes then."""
    for node in redis.nodes:
        if node.answers and node.max_bytes and node.used_bytes * 100 >= node.max_bytes * FULL_PERCENT:
            text = f"{node.used_bytes >> 20} of {node.max_bytes >> 20} MiB are used"
            yield Diagnosis(Kind.REDIS_MEMORY_FULL, node.name, Certainty.CONFIRMED, (text,))


def hung_candidate(
    seen: Observation, redis: Redis, evidence: Evidence, policy: Policy, *, shared: bool
) -> Diagnosis | None:
    """Whether the one that is being promoted does not answer."""
    name, life = redis.record.candidate, redis.record.candidate_life
    silent = _silences(seen, redis.node(name), life, evidence, policy.silent_after_ms)
    return _hung(Kind.REDIS_REPLICA_AWAY, name, life, silent, [], shared=shared) if silent else None


def _silences(
    seen: Observation, node: RedisNode, life: Life | None, evidence: Evidence, limit_ms: int
) -> tuple[str, ...]:
    """Who has not had an answer of this life. Without the healer's own ping there is none: it answers."""
    if node.life not in (None, life):
        return ()
    healer_ms = min(node.silent_ms, seen.at_ms - evidence.since_ms)
    if healer_ms < limit_ms:
        return ()
    process = process_of(seen, node.name)
    known = process is not None and process.life == life and process.phase is Phase.RUNNING
    platform_ms = platform_silent_ms(evidence, process, seen.at_ms) if process is not None and known else 0
    platform = (f"platform's probe unanswered for {platform_ms} ms",) if platform_ms >= limit_ms else ()
    return (f"healer's ping unanswered for {healer_ms} ms", *platform)


def _word_of_replicas(redis: Redis) -> list[tuple[str, int]]:
    """When they heard from the primary."""
    name = redis.record.primary
    replicas = (node for node in redis.others if node.answers and node.follows == name)
    return [(node.name, node.heard_ms) for node in replicas if node.heard_ms is not None]


def _hung(
    kind: Kind, name: str, life: Life | None, silent: tuple[str, ...], contradicts: Sequence[str], *, shared: bool
) -> Diagnosis:
    against = [*contradicts, *(["many are silent at once"] if shared else [])]
    if against:
        return Diagnosis(kind, name, Certainty.CANNOT_TELL, (*silent, *(f"but {each}" for each in against)), life)
    certainty = Certainty.CONFIRMED if len(silent) > 1 else Certainty.SUSPECTED
    return Diagnosis(kind, name, certainty, silent, life)


def _unlinked(node: RedisNode, primary: str, counts_ms: int) -> Diagnosis:
    """Its own word. For so long: its link fails again and again, or every full copy does. counts_ms: what counts."""
    if node.heard_ms is None:
        text, certainty = f"not linked to {primary}", Certainty.SUSPECTED
    else:
        text = f"it has not heard from {primary} for {node.heard_ms} ms"
        certainty = Certainty.CONFIRMED if min(node.heard_ms, counts_ms) >= UNLINKED_MS else Certainty.SUSPECTED
    return Diagnosis(Kind.REDIS_REPLICA_AWAY, node.name, certainty, (text,))


def _is_unlinked(node: RedisNode, redis: Redis, counts_ms: int) -> bool:
    if not node.answers or redis.record.phase is not FailoverPhase.STEADY or redis.phase_age_ms < UNLINKED_MS:
        return False
    return node.role is not RedisRole.REPLICA or node.heard_ms is None or min(node.heard_ms, counts_ms) >= UNHEARD_MS
