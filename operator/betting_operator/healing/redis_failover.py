"""Redis failover, one step at a time: what the record says and what is seen give the next step, and no more.

suspect → confirm → gate → fence → choose → promote and verify → re-point. Nothing is kept between ticks but the
record, so whoever heals next goes on from it. Three rules keep two primaries from ever acknowledging at once: only the
life that the record names is promoted; the record moves on from a life only when that life is fenced; every step names
what the record said when it was planned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from betting_operator.healing import redis_diagnose
from betting_operator.healing.actions import Action, Kill
from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.evidence import Evidence
from betting_operator.healing.gate import Gate
from betting_operator.healing.memory import Deed
from betting_operator.healing.plan import Declined, service_of
from betting_operator.healing.policy import Policy
from betting_operator.healing.redis_actions import Follow, Move, Promote
from betting_operator.healing.redis_signals import Redis, RedisNode, RedisPhase, RedisRecord, RedisRole
from betting_operator.healing.signals import Exit, Observation, Phase

SERVICE = "redis"
# What a primary may still acknowledge after its replicas were taken from it: min-replicas-max-lag (2 s), and a second.
DETACHED_MS = 3_000
# So long a failover may wait for a node before a person is called.
WAITING_MS = 5_000


@dataclass(frozen=True, slots=True)
class Step:
    """What one tick says and does about Redis."""

    diagnoses: tuple[Diagnosis, ...] = ()
    actions: tuple[Action, ...] = ()
    declined: tuple[Declined, ...] = ()
    deeds: tuple[Deed, ...] = ()


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

    def over(self, name: str, boot_id: str) -> str:
        return redis_diagnose.life_over(self.seen, self.redis, self.exits, name, boot_id)

    def move(self, **changes: object) -> Move:
        return Move(self.record, replace(self.record, **changes), self.seen.term)  # type: ignore[arg-type]


def step(
    seen: Observation,
    evidence: Evidence,
    exits: Sequence[Exit],
    gate: Gate,
    policy: Policy,
    *,
    shared: bool = False,
) -> Step:
    """The next step. exits: of the window; shared: many processes are silent at once: no silence is proof."""
    redis = seen.redis
    if redis is None:
        return Step()
    look = _Look(seen, redis, evidence, exits, gate, policy, shared)
    full = Step(diagnoses=tuple(redis_diagnose.full(redis)))
    match redis.record.phase:
        case RedisPhase.STEADY:
            return _joined(full, _steady(look))
        case RedisPhase.FENCING:
            return _joined(full, _complaint(look), _fencing(look))
        case RedisPhase.DETACHED:
            return _joined(full, _complaint(look), _detached(look))
        case RedisPhase.PROMOTING:
            return _joined(full, _complaint(look), _promoting(look))


def _steady(look: _Look) -> Step:
    wrong = _primary(look)
    if wrong is None:
        return _joined(_repairs(look), _replicas(look))
    said = Step(diagnoses=(wrong,))
    if not wrong.confirmed:
        return _joined(said, _undone(wrong, f"{wrong.certainty}: {'; '.join(wrong.evidence)}"))
    reason = look.gate.paused or look.gate.unwritable or look.gate.spent(SERVICE)
    if reason:
        return _joined(said, _blocked(look, reason))
    rest = look.gate.rest(SERVICE)
    if rest:
        return _joined(said, _stopped(Certainty.SUSPECTED, rest))
    deed = look.gate.begun(SERVICE, look.record.primary, "")
    return _joined(said, Step(actions=(look.move(phase=RedisPhase.FENCING),), deeds=(deed,)))


def _fencing(look: _Look) -> Step:
    record = look.record
    if look.over(record.primary, record.boot_id):
        return _choose(look)
    if _serves_again(look):
        return Step(actions=(look.move(phase=RedisPhase.STEADY),))
    if look.redis.min_replicas_to_write:
        return _detach(look)
    wrong = _primary(look)
    if wrong is None or not wrong.confirmed:
        return _waiting(look, f"{record.primary} is neither proven to hang nor well")
    return _kill(look, record.primary, record.boot_id)


def _serves_again(look: _Look) -> bool:
    """Nobody else was promoted yet: it keeps its place, and what only it has."""
    node = look.redis.node(look.record.primary)
    return node.answers and node.fresh and node.role is RedisRole.PRIMARY  # of this life, or it would be over


def _detach(look: _Look) -> Step:
    """The fence for who cannot be seen to end: so many replicas taken away that it can take no writes."""
    if look.gate.paused:
        return _blocked(look, look.gate.paused)
    if len(_detached_nodes(look)) >= _to_detach(look.redis):
        return Step(actions=(look.move(phase=RedisPhase.DETACHED),))
    attached = [node for node in _answering(look) if node.role is RedisRole.REPLICA and node.follows]
    if len(_detached_nodes(look)) + len(attached) < _to_detach(look.redis):
        return _blocked(look, "no fence: its exit was not seen, and too few of its replicas answer to detach them")
    return Step(actions=tuple(Follow(node.name, node.boot_id, "") for node in attached))


def _detached(look: _Look) -> Step:
    if look.over(look.record.primary, look.record.boot_id):
        return _choose(look)
    if _serves_again(look):
        return Step(actions=(look.move(phase=RedisPhase.STEADY),))
    if len(_detached_nodes(look)) < _to_detach(look.redis):
        return Step(actions=(look.move(phase=RedisPhase.FENCING),))
    if look.redis.phase_age_ms < DETACHED_MS:
        return _waiting(look, "what it may still acknowledge has to run out")
    return _choose(look)


def _choose(look: _Look) -> Step:
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
        key=lambda node: (not node.astray, node.offset, node.name == look.record.primary, node.name),
    )
    chosen = look.move(phase=RedisPhase.PROMOTING, candidate=best.name, candidate_boot_id=best.boot_id)
    return Step(actions=(chosen,))


def _promoting(look: _Look) -> Step:
    record = look.record
    if look.over(record.candidate, record.candidate_boot_id):
        return Step(actions=(look.move(phase=RedisPhase.FENCING, candidate="", candidate_boot_id=""),))
    node = look.redis.node(record.candidate)
    if node.answers and node.boot_id == record.candidate_boot_id:
        if node.role is RedisRole.PRIMARY and node.fresh:
            served = RedisRecord(record.candidate, record.candidate_boot_id, record.epoch + 1)
            return Step(actions=(Move(record, served, look.seen.term),))
        return Step(actions=(Promote(record.candidate, record.candidate_boot_id),))
    # From here on it may be primary: it has to be fenced like one.
    wrong = redis_diagnose.frozen_candidate(look.seen, look.redis, look.evidence, look.policy, shared=look.shared)
    if wrong is None or not wrong.confirmed:
        return _waiting(look, f"{record.candidate} is to become primary and does not answer yet")
    return _joined(Step(diagnoses=(wrong,)), _kill(look, record.candidate, record.candidate_boot_id))


def _repairs(look: _Look) -> Step:
    """The record is right, so the nodes are made to agree with it: the named life serves, the others follow it."""
    record, redis = look.record, look.redis
    node = redis.node(record.primary)
    if not (node.answers and node.fresh):  # of the named life, or it would be over
        return Step()
    if node.role is RedisRole.REPLICA:
        return Step(actions=(Promote(record.primary, record.boot_id),))
    astray = [each for each in redis.others if each.answers and each.fresh and each.follows != record.primary]
    return Step(actions=tuple(Follow(each.name, each.boot_id, record.primary) for each in astray))


def _replicas(look: _Look) -> Step:
    steps = []
    for node, wrong in redis_diagnose.others(look.seen, look.redis, look.evidence, look.policy, shared=look.shared):
        said = Step(diagnoses=(wrong,))
        if wrong.confirmed and wrong.boot_id:
            reason = look.gate.spent_on(service_of(look.seen, node.name), node.name)
            healing = _blocked(look, reason) if reason else _kill(look, node.name, wrong.boot_id)
            steps.append(_joined(said, healing))
        else:
            steps.append(_joined(said, _undone(wrong, "the platform starts it again, and it links by itself")))
    return _joined(*steps)


def _kill(look: _Look, name: str, boot_id: str) -> Step:
    """By boot id, through the platform, which then sees it end."""
    process = redis_diagnose.process_of(look.seen, name)
    if process is None or process.boot_id != boot_id or process.phase is not Phase.RUNNING:
        return _waiting(look, f"no fence: the platform does not know this life of {name} (boot id {boot_id})")
    if look.gate.killed(name, boot_id, look.policy.cool_down_ms):
        return _waiting(look, f"{name} has been killed: waiting for its end")
    if look.gate.paused:
        return _blocked(look, look.gate.paused)
    deed = look.gate.begun(process.service, name, boot_id)
    return Step(actions=(Kill(process.service, name, boot_id),), deeds=(deed,))


def _primary(look: _Look) -> Diagnosis | None:
    return redis_diagnose.primary(look.seen, look.redis, look.evidence, look.exits, look.policy, shared=look.shared)


def _complaint(look: _Look) -> Step:
    """While a failover is under way, what it is about."""
    wrong = _primary(look)
    return Step(diagnoses=() if wrong is None else (wrong,))


def _answering(look: _Look) -> list[RedisNode]:
    return [node for node in look.redis.nodes if node.answers and node.fresh]


def _lives(look: _Look, node: RedisNode) -> bool:
    return not look.over(node.name, node.boot_id)


def _may_have_data(look: _Look, node: RedisNode) -> bool:
    """A node that is down has none: nothing is on disk. One that runs and was not heard just now may."""
    if node.name == look.record.primary or (node.answers and node.fresh):
        return False
    process = redis_diagnose.process_of(look.seen, node.name)
    return process is None or process.phase is not Phase.DOWN


def _to_detach(redis: Redis) -> int:
    return len(redis.others) - redis.min_replicas_to_write + 1


def _detached_nodes(look: _Look) -> list[RedisNode]:
    primary = look.record.primary
    return [
        node
        for node in _answering(look)
        if node.name != primary and node.role is RedisRole.REPLICA and not node.follows
    ]


def _waiting(look: _Look, why: str, silent: Iterable[str] = ()) -> Step:
    """Nothing can be done now; if that lasts, a person is called. silent: nodes that keep it waiting."""
    steps = []
    for node, wrong in redis_diagnose.others(look.seen, look.redis, look.evidence, look.policy, shared=look.shared):
        if node.name in silent and wrong.confirmed and wrong.boot_id:
            steps.append(_joined(Step(diagnoses=(wrong,)), _kill(look, node.name, wrong.boot_id)))
    if any(each.actions for each in steps):
        return _joined(*steps)
    waited_ms = min(look.redis.phase_age_ms, look.seen.at_ms - look.evidence.since_ms)
    certainty = Certainty.CONFIRMED if waited_ms >= WAITING_MS else Certainty.SUSPECTED
    return _joined(*steps, _stopped(certainty, why))


def _blocked(look: _Look, why: str) -> Step:
    return _stopped(Certainty.CONFIRMED, why)


def _stopped(certainty: Certainty, why: str) -> Step:
    blocked = Diagnosis(Kind.REDIS_BLOCKED, SERVICE, certainty, (why,))
    return _joined(Step(diagnoses=(blocked,)), _undone(blocked, why))


def _undone(what: Diagnosis, why: str) -> Step:
    return Step(declined=(Declined(what.kind, what.target, why),))


def _joined(*steps: Step) -> Step:
    return Step(
        diagnoses=tuple(each for step in steps for each in step.diagnoses),
        actions=tuple(each for step in steps for each in step.actions),
        declined=tuple(each for step in steps for each in step.declined),
        deeds=tuple(each for step in steps for each in step.deeds),
    )
