"""What a healer remembers from tick to tick: a value, so that every decision can be made again from its record."""

from __future__ import annotations

from dataclasses import dataclass, field

from betting_operator.healing.evidence import Evidence
from betting_operator.healing.feeds import Silence
from betting_operator.healing.grey import Outlier
from betting_operator.healing.handovers import HandOvers
from betting_operator.healing.retiring import Retirement
from betting_operator.healing.signals import Exit
from betting_operator.healing.sizes import Large
from betting_operator.healing.standstill import Standstills

# Far more exits than a window holds before a person has been called.
EXITS_MAX = 200


@dataclass(frozen=True, slots=True)
class Deed:
    """A dear action that was begun."""

    at_ms: int
    service: str
    instance: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class Tries:
    """Dear actions on an instance since it was last seen healthy."""

    instance: str
    count: int


@dataclass(frozen=True, slots=True)
class Memory:
    """exits, deeds: of the window; told: alerts that stand, as "diagnosis target"."""

    evidence: Evidence = field(default_factory=Evidence)
    exits: tuple[Exit, ...] = ()
    standstills: Standstills = ()
    silences: tuple[Silence, ...] = ()
    handovers: HandOvers = field(default_factory=HandOvers)
    outliers: tuple[Outlier, ...] = ()
    large: tuple[Large, ...] = ()
    retirement: Retirement | None = None
    deeds: tuple[Deed, ...] = ()
    tries: tuple[Tries, ...] = ()
    told: tuple[str, ...] = ()
