"""What a scenario is given, and what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from bettors import Load
from platform_under_test import Images, Installed

# Whatever is wrong and needs a person is said in the status of the platform within this time.
SAID_S = 30.0
# Figures of a scenario for the report, by name; a number's unit ends its name.
Facts = dict[str, object]


@dataclass
class Scene:
    """The platform under test, its bettors, and the images there are."""

    platform: Installed
    load: Load
    images: Images


def _always(_: Scene) -> None:
    return


class Scenario(NamedTuple):
    """One thing that must work. loaded: bettors bet all the while. core: part of the ten-minute core.

    require: raises Skipped where this cluster cannot show it; asked before any bet, so that no bet goes unjudged. run
    itself does not raise Skipped. The first line of its docstring says what it is.
    """

    name: str
    run: Callable[[Scene], Facts]
    loaded: bool = True
    core: bool = False
    require: Callable[[Scene], None] = _always

    @property
    def summary(self) -> str:
        """What it is, in one line."""
        return (self.run.__doc__ or "").splitlines()[0].rstrip(".")
