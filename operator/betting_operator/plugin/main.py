"""The command line `kubectl betting`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from betting_operator.plugin import drill, heal, platform, rebalance
from betting_operator.plugin.options import on_cluster, ordered

GROUPS = {"heal": heal.app, "rebalance": rebalance.app, "drill": drill.app}


def main() -> None:
    """Runs the command line. Exit codes: 0 done, 1 not done (the reason is one line on standard error), 2 usage; of a
    command that runs in a pod: its own."""
    try:
        application()(ordered(sys.argv[1:], GROUPS), prog_name="kubectl betting")
    except Exception as error:
        from betting_operator.plugin.cluster import PluginError

        if not isinstance(error, PluginError):
            raise
        typer.echo(f"kubectl betting: {error}", err=True)
        sys.exit(error.exit_code)


def application() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_whole)
    for command in (platform.status, platform.shards, platform.thaw, platform.audit, platform.logs):
        app.command()(on_cluster(command))
    for name, group in GROUPS.items():
        app.add_typer(group, name=name)
    return app


def _say_version(asked: bool) -> None:
    if asked:
        from betting.release import version

        typer.echo(f"kubectl-betting {version()}")
        raise typer.Exit


def _whole(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the release of this plugin.")
    ] = False,
) -> None:
    """Look at a betting platform on Kubernetes, and act on it, with the rights of your kubeconfig."""
