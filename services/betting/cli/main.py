"""The command `betting`. Only the module of the command that was asked for is imported: `--help` answers at once."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from betting.supervision.errors import PlatformError

# Each is the function `command`, or the one of the same name, in the module betting.cli.<name>.
COMMANDS = {
    "up": "Run the whole platform here, in the foreground.",
    "demo": "Prove it: six minutes of faults under load, with and without the healer.",
    "quiet": "Prove that the healer leaves alone what is not broken.",
    "migrate": "Bring the database's schema up to date.",
    "status": "Show how a running platform is doing.",
    "logs": "Show what all services logged about one request.",
    "heal": "What the healer sees, does and does not do; pause it.",
    "chaos": "Break something on purpose, and see it heal.",
    "unfreeze": "Let a frozen or quarantined shard be served again.",
    "audit": "Check every promise about money against the journal.",
    "bench": "Measure throughput and latency on this machine.",
    "size": "Say how much memory bet-services need for their open bets.",
    "season": "List the shipped seasons, or check a season file.",
}


def main() -> None:
    """Runs the command line. A problem is one line on standard error and exit code 1, of the settings 2."""
    try:
        build(sys.argv[1:])()
    except PlatformError as error:
        typer.echo(f"betting: {error}", err=True)
        sys.exit(error.exit_code)


def build(arguments: list[str]) -> typer.Typer:
    """The application for these arguments."""
    app = typer.Typer(name="betting", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_platform)
    asked = next((each for each in arguments if not each.startswith("-")), None)
    for name, line in COMMANDS.items():
        if importlib.util.find_spec(f"betting.cli.{name}") is None:
            continue
        if name == "heal" and name == asked:
            app.add_typer(importlib.import_module("betting.cli.heal").app, name=name)
            continue
        command = _imported(name) if name == asked else _listed
        app.command(name, help=line if command is _listed else None)(command)
    return app


def _imported(name: str) -> Callable[..., None]:
    module = importlib.import_module(f"betting.cli.{name}")
    command: Callable[..., None] = getattr(module, "command", None) or getattr(module, name)
    return command


def _listed() -> None:
    """Stands for a command in `--help`."""


def _say_version(asked: bool) -> None:
    if asked:
        from betting.journal.schema import migration_ids
        from betting.release import version

        typer.echo(f"betting {version()} (schema {migration_ids()[-1]}, Python {platform.python_version()})")
        raise typer.Exit


def _platform(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the release and its schema.")
    ] = False,
) -> None:
    """A betting platform that repairs itself."""
