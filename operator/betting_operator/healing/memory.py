"""What a healer remembers from tick to tick: a value, so that every decision can be made again from its record."""

from __future__ import annotations

from dataclasses import dataclass, field

from betting.life import Life
from betting_operator.healing.bad_nodes import Failure
from betting_operator.healing.evidence import Evidence
from betting_operator.healing.feeds import Silence
from betting_operator.healing.grey import Outlier
from betting_operator.healing.handovers import HandOvers
from betting_operator.healing.nodes import Nodes
from betting_operator.healing.retiring import Retirement
from betting_operator.healing.signals import Capability, Exit
from betting_operator.healing.sizes import Large
from betting_operator.healing.stall import Stalls

# Far more exits than a window holds before a person has been called.
EXITS_MAX = 200


@dataclass(frozen=True, slots=True)
class Disruption:
    """A disruptive action that was begun. slot: see `slots`; life: who was killed or moved, None: all of a workload."""

    at_ms: int
    workload: str
    slot: str
    life: Life | None = None


@dataclass(frozen=True, slots=True)
class Attempts:
    """Disruptive actions on one slot since it was last seen healthy; at_ms: the last of them."""

    workload: str
    slot: str
    count: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Step:
    """A step beyond a restart that was taken, see `escalation`. slot: the workload's where it is about all of it."""

    capability: Capability
    workload: str
    slot: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Memory:
    """exits, failures, disruptions: of the window; steps: of the last hour; alerted: alerts that stand, as "diagnosis
    target".
    """

    evidence: Evidence = field(default_factory=Evidence)
    nodes: Nodes = field(default_factory=Nodes)
    failures: tuple[Failure, ...] = ()
    exits: tuple[Exit, ...] = ()
    stalls: Stalls = ()
    silences: tuple[Silence, ...] = ()
    handovers: HandOvers = field(default_factory=HandOvers)
    outliers: tuple[Outlier, ...] = ()
    large: tuple[Large, ...] = ()
    retirement: Retirement | None = None
    disruptions: tuple[Disruption, ...] = ()
    attempts: tuple[Attempts, ...] = ()
    steps: tuple[Step, ...] = ()
    alerted: tuple[str, ...] = ()
