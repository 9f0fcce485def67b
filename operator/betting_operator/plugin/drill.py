"""Drills: one now, at the request of a person, and the results of the last ones."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from betting_operator.plugin.options import Output, Shown, Target, on_cluster

if TYPE_CHECKING:
    from betting_operator.plugin.cluster import Cluster, Json

TAKEN_UP_WITHIN_S = 20.0
# The operator itself gives up after two minutes, or three times an objective, which is ten minutes at most.
ENDS_WITHIN_S = 1_900.0

app = typer.Typer(no_args_is_help=True, help="Faults that the platform injects into itself, to measure how it heals.")

Kind = Annotated[str, typer.Argument(metavar="KIND", help="One of spec.drills.faults, as DeleteBetService.")]


@app.command("run")
@on_cluster
def run(
    target: Target,
    kind: Kind,
    wait_s: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=1, help="How long the operator may take to take it up.")
    ] = TAKEN_UP_WITHIN_S,
    output: Shown = Output.TABLE,
) -> None:
    """Inject a fault now, wait until it is repaired, and show how long that took; exit code 1 unless it has passed.

    Refused while the platform is not well, or the budget of spec.drills is used up.
    """
    from betting_operator.plugin.cluster import PLATFORMS, PluginError

    here = target.cluster()
    found = here.platform()
    name = found["metadata"]["name"]
    _require_named(here, found, kind)
    asked = f"{kind}@{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    _annotate(here, name, asked)
    answered = here.wait(lambda: here.get(PLATFORMS, name), lambda each: _answer(each, asked) is not None, wait_s)
    if answered is None:
        _annotate(here, name, None)
        answered = here.get(PLATFORMS, name)  # in the last moment it may have begun
    answer = _answer(answered, asked)
    if answer is None:
        raise PluginError(
            f"the operator of {name} has not taken the request up within {wait_s:g} s: is it running, and not older "
            "than this plugin? The request is taken back. Nothing was done."
        )
    if answer["outcome"] == "Refused":
        raise PluginError(f"refused: {answer.get('message', '')}. Nothing was done.")
    begun = _result(answered, asked) or _drills(answered)["running"]
    if output is Output.TABLE:
        typer.echo(f"{begun['name']}: {kind} deletes {begun['target']}")
    ended = here.wait(lambda: here.get(PLATFORMS, name), lambda each: bool(_result(each, asked)), ENDS_WITHIN_S)
    if ended is None:
        raise PluginError(f"{answer['drill']} has no result yet: see `kubectl betting drill list`.")
    result = _result(ended, asked)
    _show([result], output)
    raise typer.Exit(0 if result["outcome"] == "Passed" else 1)


@app.command("list")
@on_cluster
def show_list(target: Target, output: Shown = Output.TABLE) -> None:
    """Show the last drills with their results, the one that runs, and what the next one waits for."""
    found = target.cluster().platform()
    state = _drills(found)
    if output is Output.JSON:
        typer.echo(json.dumps(state, indent=2))
        return
    if not state and "drills" not in (found.get("spec") or {}):
        typer.echo(f"{found['metadata']['name']} has no spec.drills: nothing is injected")
        return
    if running := state.get("running"):
        typer.echo(f"runs now: {running['name']} {running['kind']} of {running['target']}")
    if state.get("next"):
        typer.echo(f"the next one waits for: {state['next']}")
    if runs := state.get("runs"):
        _show(runs, output)


def _require_named(here: Cluster, found: Json, kind: str) -> None:
    """Raises PluginError unless spec.drills names this fault. A cluster without that field is told from a platform
    without drills by a patch that only tries."""
    from betting_operator.plugin.cluster import PLATFORMS, PluginError

    name, drills = found["metadata"]["name"], (found.get("spec") or {}).get("drills")
    if drills is None:
        example = {"faults": [{"kind": "DeleteBetService"}], "budget": {"perDay": 1}}
        here.patch(PLATFORMS, name, {"spec": {"drills": example}}, dry_run=True)
        raise PluginError(f"{name} has no spec.drills, which names what may be injected. Nothing was done.")
    named = [each["kind"] for each in drills["faults"]]
    if kind not in named:
        raise PluginError(f"spec.drills.faults of {name} has {', '.join(named)}, not {kind[:64]}. Nothing was done.")


def _annotate(here: Cluster, name: str, asked: str | None) -> None:
    from betting_operator.kubernetes.drill_values import REQUEST_ANNOTATION
    from betting_operator.plugin.cluster import PLATFORMS

    here.patch(PLATFORMS, name, {"metadata": {"annotations": {REQUEST_ANNOTATION: asked}}})


def _drills(found: Json) -> Json:
    state: Json = (found.get("status") or {}).get("drills") or {}
    return state


def _answer(found: Json, asked: str) -> Json | None:
    answer: Json = _drills(found).get("lastRequest") or {}
    return answer if answer.get("request") == asked else None


def _result(found: Json, asked: str) -> Json:
    runs: list[Json] = _drills(found).get("runs") or []
    return next((each for each in runs if each.get("request") == asked), {})


def _show(runs: list[Json], output: Output) -> None:
    from betting_operator.plugin.platform import table

    if output is Output.JSON:
        typer.echo(json.dumps(runs[0], indent=2))
        return
    rows = [
        (
            *(each["name"], each["kind"], each.get("target", ""), each["outcome"]),
            _against(each, "detect"),
            _against(each, "repair"),
            each.get("message", ""),
        )
        for each in runs
    ]
    table(("drill", "kind", "target", "outcome", "detected", "repaired", "message"), rows)


def _against(run: Json, what: str) -> str:
    """How long it took, and the objective: 1.2 of 2 s."""
    took, objective = run.get(f"{what}edSeconds"), run.get(f"{what}ObjectiveSeconds")
    return f"{'-' if took is None else f'{took:g}'} of {objective:g} s" if objective else "-"
