"""What a healer sees of Redis: the record of who is primary, and what each node says of itself.

The record names one life of one node. Only that life may serve as primary, and the record moves on from a life only
when that life is fenced: everything that must never happen twice follows from these two.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from betting.life import Life

# The instances of this workload are Redis nodes.
REDIS_WORKLOAD = "valkey"
# A replica that has not heard from its primary for longer is not linked, whatever it says (a stopped primary's link is
# "up" for a minute).
LINKED_MS = 2_000


class FailoverPhase(StrEnum):
    """How far a failover has come; what is written is the intent, before anything is done about it."""

    STEADY = "steady"
    FENCING = "fencing"  # the primary is to be kept from ever answering a write again
    DETACHED = "detached"  # its replicas were taken from it; what it still may acknowledge runs out
    PROMOTING = "promoting"  # it is fenced, the candidate is to become primary


class RedisRole(StrEnum):
    """What a node takes itself for."""

    PRIMARY = "primary"
    REPLICA = "replica"
    UNKNOWN = "unknown"  # it was never heard


@dataclass(frozen=True, slots=True)
class RedisRecord:
    """The row in Postgres. boot_id, candidate_boot_id: of the lives it names; epoch: goes up with every new primary.

    min_replicas: how many replicas the primary waits for by its configuration, as it said itself; 0: for none, or it is
    not known.
    """

    primary: str
    boot_id: str
    epoch: int
    phase: FailoverPhase = FailoverPhase.STEADY
    candidate: str = ""
    candidate_boot_id: str = ""
    min_replicas: int = 0

    @property
    def life(self) -> Life:
        """The life that is primary."""
        return Life(REDIS_WORKLOAD, self.primary, self.boot_id)

    @property
    def candidate_life(self) -> Life:
        """The life that is to become primary; of use only in the phase that names one."""
        return Life(REDIS_WORKLOAD, self.candidate, self.candidate_boot_id)


# What is recorded before the platform has had a primary.
NOBODY = RedisRecord("", "", 0)


@dataclass(frozen=True, slots=True)
class RedisNode:
    """One node, as its last answer to the healer told.

    boot_id: of the life that answered, "" while none ever did. silent_ms: since its last answer, 0 when the last
    question was answered. fresh: asked after the record of this tick was read. follows: the node it replicates from,
    "" for nobody, host:port of one that is not known. heard_ms: since it heard from that one, None: never. history: the
    id of the history that its data is of; a replica that is in step has that of its primary. offset: how far its copy
    reaches, 0 or 1 at its start. min_replicas: how many replicas it waits for before it takes a write, by its
    configuration; 0: for none, or not as strictly as MAX_LAG_S. has_address: without one it can be told nothing.
    """

    name: str
    boot_id: str = ""
    silent_ms: int = 0
    fresh: bool = False
    role: RedisRole = RedisRole.UNKNOWN
    follows: str = ""
    heard_ms: int | None = None
    history: str = ""
    offset: int = 0
    keys: int = 0
    used_bytes: int = 0
    max_bytes: int = 0
    min_replicas: int = 0
    has_address: bool = True

    @property
    def life(self) -> Life | None:
        """The life that answered, None while none ever did."""
        return Life(REDIS_WORKLOAD, self.name, self.boot_id) if self.boot_id else None

    @property
    def answers(self) -> bool:
        """Whether its latest question was answered."""
        return self.silent_ms == 0 and self.role is not RedisRole.UNKNOWN

    def is_apart_from(self, name: str) -> bool:
        """Whether it certainly does not replicate from this node: it has just said whom it follows."""
        return self.answers and self.fresh and self.follows != name and ":" not in self.follows

    @property
    def linked(self) -> bool:
        """Whether it is a replica that hears its primary."""
        return self.role is RedisRole.REPLICA and self.heard_ms is not None and self.heard_ms <= LINKED_MS

    @property
    def unsynced(self) -> bool:
        """Whether it follows a primary that it has not heard from yet: its data is of an earlier one."""
        return bool(self.follows) and self.heard_ms is None

    @property
    def has_data(self) -> bool:
        """Whether it holds anything: it has replicated, or has keys of its own."""
        return self.offset > 1 or self.keys > 0


@dataclass(frozen=True, slots=True)
class Redis:
    """All of it. phase_age_ms: since the record changed."""

    record: RedisRecord
    phase_age_ms: int
    nodes: tuple[RedisNode, ...]

    def node(self, name: str) -> RedisNode:
        """A node by its name, also one that is not known."""
        return next((node for node in self.nodes if node.name == name), RedisNode(name))

    @property
    def others(self) -> tuple[RedisNode, ...]:
        """All but the recorded primary."""
        return tuple(node for node in self.nodes if node.name != self.record.primary)
