"""What a scenario is given, and what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from bettors import Load
from platform_under_test import Images, Installed

# Figures of a scenario for the report, by name; a number's unit ends its name.
Facts = dict[str, object]


@dataclass
class Scene:
    """The platform under test, its bettors, and the images there are. gateway_url: where bettors come in."""

    platform: Installed
    load: Load
    images: Images
    gateway_url: str


class Scenario(NamedTuple):
    """One thing that must work. loaded: bettors bet all the while. core: part of the ten-minute core.

    by_itself: it makes and removes the platform, so nothing is brought back after it. The first line of run's
    docstring says what it is.
    """

    name: str
    run: Callable[[Scene], Facts]
    loaded: bool = True
    core: bool = False
    by_itself: bool = False

    @property
    def summary(self) -> str:
        """What it is, in one line."""
        return (self.run.__doc__ or "").splitlines()[0].rstrip(".")
