"""`betting up`: the whole platform in the foreground."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from betting.cli.options import Data, FreePorts, NoHealer, Plain, Season, TrustGoals


def up(
    data: Data = Path(".betting"),
    season: Season = None,
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds of the season per real second, for a new folder.")
    ] = None,
    trust_goals: TrustGoals = False,
    free_ports: FreePorts = False,
    no_healer: NoHealer = False,
    plain: Plain = False,
) -> None:
    """Run the whole platform here, in the foreground. Ctrl-C stops it in order; a second Ctrl-C at once."""
    from betting.cli.foreground import run
    from betting.drills.embedded_target import inject
    from betting.embedded.folder import DataFolder
    from betting.embedded.platform import Options
    from betting.embedded.topology import HEALER, services_for

    services = tuple(each for each in services_for(os.environ) if not (no_healer and each.name == HEALER))
    options = Options(
        DataFolder.at(data),
        free_ports=free_ports,
        season=season,
        speed=speed,
        trust_goals=trust_goals,
        services=services,
        inject=inject,
    )
    asyncio.run(run(options, plain=plain))
