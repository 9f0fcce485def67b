"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PIPE_WIDTH = 120  # columns of a table that goes into a log

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder that holds the platform's data.")]
Season = Annotated[
    str | None,
    typer.Option("--season", metavar="FILE", help="A season file or a shipped one's name, for a new folder."),
]
TrustGoals = Annotated[
    bool,
    typer.Option(
        "--trust-goals", help="Where other cells contradict a match's goals, play it by its goals, with bets."
    ),
]
FreePorts = Annotated[bool, typer.Option("--free-ports", help="Use any free ports instead of the fixed ones.")]
NoHealer = Annotated[bool, typer.Option("--no-healer", help="Leave the healer out: instances look after themselves.")]
Plain = Annotated[bool, typer.Option("--plain", help="Plain lines, no live screen.")]
