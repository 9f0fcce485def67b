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
    """The row in Postgres. boot_id, candidate_boot_id: of the lives it names; epoch: goes up with every new primary."""

    primary: str
    boot_id: str
    epoch: int
    phase: FailoverPhase = FailoverPhase.STEADY
    candidate: str = ""
    candidate_boot_id: str = ""

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
    question was answered. fresh: asked after the record of this tick was read. follows: the node it replicates from.
    heard_ms: since it heard from that one, None: never. offset: how far its copy reaches, 0 or 1 at its start.
    """

    name: str
    boot_id: str = ""
    silent_ms: int = 0
    fresh: bool = False
    role: RedisRole = RedisRole.UNKNOWN
    follows: str = ""
    heard_ms: int | None = None
    offset: int = 0
    keys: int = 0
    used_bytes: int = 0
    max_bytes: int = 0

    @property
    def life(self) -> Life | None:
        """The life that answered, None while none ever did."""
        return Life(REDIS_WORKLOAD, self.name, self.boot_id) if self.boot_id else None

    @property
    def answers(self) -> bool:
        """Whether its latest question was answered."""
        return self.silent_ms == 0 and self.role is not RedisRole.UNKNOWN

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
    """All of it. phase_age_ms: since the record changed; min_replicas_to_write: as the nodes are configured."""

    record: RedisRecord
    phase_age_ms: int
    nodes: tuple[RedisNode, ...]
    min_replicas_to_write: int = 0

    def node(self, name: str) -> RedisNode:
        """A node by its name, also one that is not known."""
        return next((node for node in self.nodes if node.name == name), RedisNode(name))

    @property
    def others(self) -> tuple[RedisNode, ...]:
        """All but the recorded primary."""
        return tuple(node for node in self.nodes if node.name != self.record.primary)
