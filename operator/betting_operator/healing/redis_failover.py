"""Redis failover, one step at a time: what the record says and what is seen give the next step, and no more.

suspect → confirm → gate → fence → choose → promote and verify → re-point. Nothing is kept between ticks but the
record, so whoever heals next goes on from it. Three rules keep two primaries from ever acknowledging at once: only the
life that the record names is promoted; the record moves on from a life only when that life is fenced; every step names
what the record said when it was planned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from betting.life import Life
from betting_operator.healing import redis_diagnose
from betting_operator.healing.actions import Action, Kill
from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.evidence import Evidence
from betting_operator.healing.gate import Gate
from betting_operator.healing.memory import Disruption
from betting_operator.healing.plan import Declined
from betting_operator.healing.policy import Policy
from betting_operator.healing.redis_actions import Follow, MoveRecord, Promote
from betting_operator.healing.redis_signals import (
    NOBODY,
    REDIS_WORKLOAD,
    FailoverPhase,
    Redis,
    RedisNode,
    RedisRecord,
    RedisRole,
)
from betting_operator.healing.signals import Exit, Observation, Phase

WORKLOAD = "redis"
# How long a primary may still acknowledge writes after its replicas were taken from it. Valkey counts a replica until
# its last word is more than min-replicas-max-lag (2 s) old, in whole seconds, so up to 3 s; it counts once a second;
# and one second for a machine that is busy.
DETACHED_MS = 5_000
# So long a failover may wait for a node before a person is called.
WAITING_MS = 5_000
# A node that is still there after so long was not killed.
KILL_TAKES_MS = 5_000


@dataclass(frozen=True, slots=True)
class FailoverStep:
    """What one tick says and does about Redis."""

    diagnoses: tuple[Diagnosis, ...] = ()
    actions: tuple[Action, ...] = ()
    declined: tuple[Declined, ...] = ()
    disruptions: tuple[Disruption, ...] = ()


@dataclass(frozen=True, slots=True)
class _Look:
    """Everything a step depends on."""

    seen: Observation
    redis: Redis
    evidence: Evidence
    exits: Sequence[Exit]
    gate: Gate
    policy: Policy
    shared: bool

    @property
    def record(self) -> RedisRecord:
        return self.redis.record

    def over(self, life: Life) -> str:
        return redis_diagnose.life_over(self.seen, self.redis, self.exits, life)

    def move(self, **changes: object) -> MoveRecord:
        return MoveRecord(self.record, replace(self.record, **changes), self.seen.term)  # type: ignore[arg-type]


def next_step(
    seen: Observation,
    evidence: Evidence,
    exits: Sequence[Exit],
    gate: Gate,
    policy: Policy,
    *,
    shared: bool = False,
) -> FailoverStep:
    """The next step. exits: of the window; shared: many processes are silent at once: no silence is proof."""
    redis = seen.redis
    if redis is None:
        return FailoverStep()
    look = _Look(seen, redis, evidence, exits, gate, policy, shared)
    full = FailoverStep(diagnoses=tuple(redis_diagnose.full(redis)))
    if redis.record == NOBODY:
        return _joined(full, _first(look))
    match redis.record.phase:
        case FailoverPhase.STEADY:
            return _joined(full, _steady(look))
        case FailoverPhase.FENCING:
            return _joined(full, _complaint(look), _fencing(look))
        case FailoverPhase.DETACHED:
            return _joined(full, _complaint(look), _detached(look))
        case FailoverPhase.PROMOTING:
            return _joined(full, _complaint(look), _promoting(look))


def lives(redis: Redis | None) -> frozenset[Life]:
    """The recorded primary's, and the last one that was heard of every node."""
    if redis is None:
        return frozenset()
    return frozenset({redis.record.life, *(node.life for node in redis.nodes if node.life is not None)})


def _first(look: _Look) -> FailoverStep:
    """Nobody was ever primary here: the first node that answers, by name, begins; with nodes that boot fenced nothing
    is lost by it, so neither a budget nor a pause holds it up. Data that no record speaks of is of an earlier database:
    nobody is made primary with it.
    """
    answering = sorted((node for node in _answering(look) if node.life is not None), key=lambda node: node.name)
    empty = next((node for node in answering if not node.has_data), None)
    if empty is not None:
        named = {"primary": empty.name, "boot_id": empty.boot_id, "min_replicas": empty.min_replicas}
        return FailoverStep(actions=(look.move(epoch=1, **named),))
    if answering:
        names = ", ".join(node.name for node in answering)
        return _blocked(look, f"no record says whose the data is that {names} hold: restart one of them, empty")
    starting = any(
        process.workload == REDIS_WORKLOAD and process.phase is Phase.STARTING for process in look.seen.processes or ()
    )
    if starting or not look.redis.nodes:  # Redis may be somebody else's
        return FailoverStep()
    lasts = look.seen.at_ms - look.evidence.since_ms >= WAITING_MS
    certainty = Certainty.CONFIRMED if lasts else Certainty.SUSPECTED
    return _stopped(certainty, "no node answers that could become the first primary")


def _steady(look: _Look) -> FailoverStep:
    wrong = _primary(look)
    if wrong is None:
        return _joined(_repairs(look), _replicas(look))
    step = FailoverStep(diagnoses=(wrong,))
    if not wrong.confirmed:
        return _joined(step, _undone(wrong, f"{wrong.certainty}: {'; '.join(wrong.evidence)}"))
    reason = look.gate.paused or look.gate.unwritable or look.gate.spent(WORKLOAD)
    if reason:
        return _joined(step, _blocked(look, reason))
    rest = look.gate.rest(WORKLOAD)
    if rest:
        return _joined(step, _stopped(Certainty.SUSPECTED, rest))
    disruption = look.gate.workload_begun(WORKLOAD, look.record.primary)
    return _joined(step, FailoverStep(actions=(look.move(phase=FailoverPhase.FENCING),), disruptions=(disruption,)))


def _fencing(look: _Look) -> FailoverStep:
    record = look.record
    if look.over(record.life):
        return _choose(look)
    if _serves_again(look):
        return FailoverStep(actions=(look.move(phase=FailoverPhase.STEADY),))
    waits_for_replicas = _min_replicas(look) > 0
    if waits_for_replicas and (detaching := _detach(look)) is not None:
        return _blocked(look, look.gate.paused) if look.gate.paused else detaching
    wrong = _primary(look)
    if wrong is None or not wrong.confirmed:
        return _waiting(look, f"{record.primary} is neither proven to hang nor well")
    killing = _kill(look, record.life)
    if waits_for_replicas and not killing.actions:
        return _waiting(look, "no fence: its exit was not seen, and too few of its replicas answer to detach them")
    return killing


def _serves_again(look: _Look) -> bool:
    """Nobody else was promoted yet: it keeps its place, and what only it has."""
    node = look.redis.node(look.record.primary)
    return node.answers and node.fresh and node.role is RedisRole.PRIMARY  # of this life, or it would be over


def _min_replicas(look: _Look) -> int:
    """How many replicas the primary certainly waits for before it takes a write: as it was recorded when it became
    primary, or as it said since, if that is less. 0: it may take writes without any."""
    record, node = look.record, look.redis.node(look.record.primary)
    return min(record.min_replicas, node.min_replicas) if node.life == record.life else record.min_replicas


def _is_detached(look: _Look) -> bool:
    """Whether too few nodes are left that could be its replicas: the others have just said that they are not, or have
    ended. Nodes that boot follow nobody until a healer says whom."""
    others = look.redis.others
    left = [node for node in others if not node.is_apart_from(look.record.primary) and not _has_ended(look, node)]
    return bool(others) and len(left) < _min_replicas(look)


def _detach(look: _Look) -> FailoverStep | None:
    """The fence for who cannot be seen to end: so many replicas taken away that it can take no writes. None: it cannot
    be had, too few of its replicas answer."""
    if _is_detached(look):
        return FailoverStep(actions=(look.move(phase=FailoverPhase.DETACHED),))
    primary = look.record.primary
    here = [node for node in _answering(look) if node.name != primary]
    away = [node for node in look.redis.others if node not in here and not _has_ended(look, node)]
    if len(away) >= _min_replicas(look):
        return None
    attached = (node.life for node in here if not node.is_apart_from(primary))
    return FailoverStep(actions=tuple(Follow(life, "") for life in attached if life is not None))


def _detached(look: _Look) -> FailoverStep:
    if look.over(look.record.life):
        return _choose(look)
    if _serves_again(look):
        return FailoverStep(actions=(look.move(phase=FailoverPhase.STEADY),))
    if not _is_detached(look):
        return FailoverStep(actions=(look.move(phase=FailoverPhase.FENCING),))
    if look.redis.phase_age_ms >= DETACHED_MS:
        return _choose(look)
    # Its replicas cannot speak against it any more; where it can be ended, that is sooner.
    killing = FailoverStep() if _primary(look) is None else _kill(look, look.record.life)
    return killing if killing.actions else _waiting(look, "what it may still acknowledge has to run out")


def _choose(look: _Look) -> FailoverStep:
    """The old primary is fenced: who of the others has the most of its data."""
    fit = [node for node in _answering(look) if node.role is RedisRole.REPLICA and _lives(look, node)]
    with_data = [node for node in fit if node.has_data]
    if not with_data:
        unknown = [node.name for node in look.redis.nodes if _may_have_data(look, node)]
        if unknown:
            return _waiting(look, f"{', '.join(unknown)} may have the data and does not answer", unknown)
        if not fit:
            return _waiting(look, "no node answers that could become primary")
    # With nobody's data left: the same node again, empty.
    best = max(
        with_data or fit,
        key=lambda node: (_is_in_step(look, node), node.offset, node.name == look.record.primary, node.name),
    )
    chosen = look.move(phase=FailoverPhase.PROMOTING, candidate=best.name, candidate_boot_id=best.boot_id)
    return FailoverStep(actions=(chosen,))


def _is_in_step(look: _Look, node: RedisNode) -> bool:
    """Whether its data is of the primary that has ended, not of an earlier one."""
    ended = look.redis.node(look.record.primary)
    if ended.life == look.record.life and ended.role is RedisRole.PRIMARY and ended.history:
        return node.history == ended.history
    return not node.unsynced


def _promoting(look: _Look) -> FailoverStep:
    record = look.record
    if look.over(record.candidate_life):
        return FailoverStep(actions=(look.move(phase=FailoverPhase.FENCING, candidate="", candidate_boot_id=""),))
    node = look.redis.node(record.candidate)
    if node.answers and node.life == record.candidate_life:
        if node.role is RedisRole.PRIMARY and node.fresh:
            whom = (record.candidate, record.candidate_boot_id)
            served = RedisRecord(*whom, record.epoch + 1, min_replicas=node.min_replicas)
            return FailoverStep(actions=(MoveRecord(record, served, look.seen.term),))
        return FailoverStep(actions=(Promote(record.candidate_life),))
    # From here on it may be primary: it has to be fenced like one.
    wrong = redis_diagnose.hung_candidate(look.seen, look.redis, look.evidence, look.policy, shared=look.shared)
    if wrong is None or wrong.certainty is Certainty.CANNOT_TELL:
        return _waiting(look, f"{record.candidate} is to become primary and does not answer yet")
    if node.life == record.candidate_life and _is_alone(look, node):
        again = look.move(phase=FailoverPhase.FENCING, candidate="", candidate_boot_id="")
        return FailoverStep(diagnoses=(wrong,), actions=(again,))
    if not wrong.confirmed:
        return _waiting(look, f"{record.candidate} is to become primary and does not answer yet")
    return _joined(FailoverStep(diagnoses=(wrong,)), _kill(look, record.candidate_life))


def _is_alone(look: _Look, candidate: RedisNode) -> bool:
    """Whether the candidate takes no writes, promoted or not: it waits for replicas and has too few. Nobody is told to
    follow it before it is recorded as primary; the one that is recorded was never told to."""
    others = (node for node in look.redis.others if node.name != candidate.name)
    left = [node for node in others if not node.is_apart_from(candidate.name) and not _has_ended(look, node)]
    return len(left) < candidate.min_replicas


def _repairs(look: _Look) -> FailoverStep:
    """The record is right, so the nodes are made to agree with it: the named life serves, the others follow it."""
    record, redis = look.record, look.redis
    node = redis.node(record.primary)
    if not (node.answers and node.fresh):  # of the named life, or it would be over
        return FailoverStep()
    if node.role is RedisRole.REPLICA:
        return FailoverStep(actions=(Promote(record.life),))
    if node.min_replicas != record.min_replicas:
        return FailoverStep(actions=(look.move(min_replicas=node.min_replicas),))
    misdirected = [each for each in redis.others if each.answers and each.fresh and each.follows != record.primary]
    return FailoverStep(
        actions=tuple(Follow(each.life, record.primary) for each in misdirected if each.life is not None)
    )


def _replicas(look: _Look) -> FailoverStep:
    steps = []
    for _node, wrong in redis_diagnose.others(look.seen, look.redis, look.evidence, look.policy, shared=look.shared):
        step = FailoverStep(diagnoses=(wrong,))
        if wrong.confirmed and wrong.life is not None:
            reason = look.gate.spent_on(wrong.life)
            healing = _blocked(look, reason) if reason else _kill(look, wrong.life)
            steps.append(_joined(step, healing))
        else:
            steps.append(_joined(step, _undone(wrong, "the platform starts it again, and it links by itself")))
    return _joined(*steps)


def _kill(look: _Look, life: Life) -> FailoverStep:
    """By boot id, through the platform, which then sees it end."""
    process = redis_diagnose.process_of(look.seen, life.instance)
    if process is not None and process.life == life and process.phase is Phase.STOPPING:
        return _waiting(look, f"no fence: {life.instance} has been told to end, and its end was not seen yet")
    if process is None or process.life != life or process.phase is not Phase.RUNNING:
        text = f"the platform does not know this life of {life.instance} (boot id {life.boot_id})"
        return _waiting(look, f"no fence: {text}")
    if look.gate.killed(life, KILL_TAKES_MS):
        return _waiting(look, f"{life.instance} has been killed: waiting for its end")
    if look.gate.paused:
        return _blocked(look, look.gate.paused)
    disruption = look.gate.begun(life)
    return FailoverStep(actions=(Kill(life),), disruptions=(disruption,))


def _primary(look: _Look) -> Diagnosis | None:
    return redis_diagnose.primary(look.seen, look.redis, look.evidence, look.exits, look.policy, shared=look.shared)


def _complaint(look: _Look) -> FailoverStep:
    """While a failover is under way, what it is about."""
    wrong = _primary(look)
    return FailoverStep(diagnoses=() if wrong is None else (wrong,))


def _answering(look: _Look) -> list[RedisNode]:
    return [node for node in look.redis.nodes if node.answers and node.fresh]


def _lives(look: _Look, node: RedisNode) -> bool:
    return node.life is not None and not look.over(node.life)


def _may_have_data(look: _Look, node: RedisNode) -> bool:
    """A node that is down, or that the platform is still to start, has none: nothing is on disk. One that runs and was
    not heard just now may."""
    if node.name == look.record.primary or (node.answers and node.fresh):
        return False
    process = redis_diagnose.process_of(look.seen, node.name)
    if process is None:
        return True
    return process.phase is not Phase.DOWN and (process.phase is not Phase.STARTING or process.life is not None)


def _has_ended(look: _Look, node: RedisNode) -> bool:
    """Whether no life of it can have been told to follow anybody: the last one that was heard has ended, or there was
    none and it has no address. The platform's inventory alone is no proof: it may be older than the last order."""
    return look.over(node.life) != "" if node.life is not None else not node.has_address


def _waiting(look: _Look, why: str, silent: Iterable[str] = ()) -> FailoverStep:
    """Nothing can be done now; if that lasts, a person is called. silent: nodes that keep it waiting."""
    steps = []
    for node, wrong in redis_diagnose.others(look.seen, look.redis, look.evidence, look.policy, shared=look.shared):
        if node.name in silent and wrong.confirmed and wrong.life is not None:
            steps.append(_joined(FailoverStep(diagnoses=(wrong,)), _kill(look, wrong.life)))
    if any(each.actions for each in steps):
        return _joined(*steps)
    waited_ms = min(look.redis.phase_age_ms, look.seen.at_ms - look.evidence.since_ms)
    certainty = Certainty.CONFIRMED if waited_ms >= WAITING_MS else Certainty.SUSPECTED
    return _joined(*steps, _stopped(certainty, why))


def _blocked(look: _Look, why: str) -> FailoverStep:
    return _stopped(Certainty.CONFIRMED, why)


def _stopped(certainty: Certainty, why: str) -> FailoverStep:
    blocked = Diagnosis(Kind.REDIS_BLOCKED, WORKLOAD, certainty, (why,))
    return _joined(FailoverStep(diagnoses=(blocked,)), _undone(blocked, why))


def _undone(what: Diagnosis, why: str) -> FailoverStep:
    return FailoverStep(declined=(Declined(what.kind, what.target, why),))


def _joined(*steps: FailoverStep) -> FailoverStep:
    return FailoverStep(
        diagnoses=tuple(each for step in steps for each in step.diagnoses),
        actions=tuple(each for step in steps for each in step.actions),
        declined=tuple(each for step in steps for each in step.declined),
        disruptions=tuple(each for step in steps for each in step.disruptions),
    )
