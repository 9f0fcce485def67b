"""What the healer sees, does and does not do; and its switches in the platform's resource."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from betting_operator.plugin.options import Target, on_cluster

if TYPE_CHECKING:
    from betting_operator.plugin.cluster import Cluster, Json

TAKEN_UP_WITHIN_S = 20.0
REASON_LENGTH_MAX = 200
_FLIGHT_FOLDER = "/tmp/flight"  # noqa: S108  (in the operator's pod)

app = typer.Typer(no_args_is_help=True, help="Diagnoses, actions and declined actions; pause, resume, dry run.")

Wait = Annotated[
    float,
    typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait until it is in force; 0: not at all."),
]


@app.command("log")
@on_cluster
def show_log(target: Target) -> None:
    """Show past diagnoses, actions and declined actions, with reasons. Needs pods/exec."""
    here = target.cluster()
    raise typer.Exit(here.betting(here.platform()["metadata"]["name"], "heal", "log"))


@app.command("plan")
@on_cluster
def show_plan(target: Target) -> None:
    """Show current diagnoses, the actions planned now, and those declined, with reasons. Needs pods/exec."""
    here = target.cluster()
    found = here.platform()
    healing = _healing(found)
    if healing.get("paused"):
        typer.echo(f"spec.healing.paused: {healing['paused']}")
    if healing.get("dryRun"):
        typer.echo("spec.healing.dryRun: nothing is done")
    raise typer.Exit(here.betting(found["metadata"]["name"], "heal", "plan"))


@app.command("replay")
@on_cluster
def replay(
    target: Target,
    file: Annotated[
        Path | None, typer.Argument(help="A flight record; default: the newest one of the operator that leads.")
    ] = None,
) -> None:
    """Make every decision of a flight record again, here; exit code 1 where one comes out differently.

    Without FILE it needs pods/exec.
    """
    from betting_operator.healing import flight
    from betting_operator.healing.actions import describe
    from betting_operator.plugin.cluster import PluginError

    lines, name = _flown(target, file)
    ticks = differences = 0
    try:
        for difference in flight.replay(lines):
            ticks += 1
            if difference is not None:
                differences += 1
                typer.echo(
                    f"line {difference.line}: recorded {[describe(each) for each in difference.recorded.actions]}"
                )
                typer.echo(f"  this release would {[describe(each) for each in difference.derived.actions]}")
    except flight.BadRecord as error:
        raise PluginError(f"{name} cannot be replayed: {error}.") from None
    typer.echo(f"{name}: {ticks} ticks, {differences} decided differently")
    raise typer.Exit(1 if differences else 0)


@app.command("pause")
@on_cluster
def pause(
    target: Target,
    reason: Annotated[str, typer.Option(help="Why; it is shown wherever the pause is shown.")],
    wait_s: Wait = TAKEN_UP_WITHIN_S,
) -> None:
    """Take no disruptive action (kill, drain, move) until resumed; shards of dead owners are still taken over."""
    from betting_operator.plugin.cluster import PluginError

    reason = reason.strip()
    if not 0 < len(reason) <= REASON_LENGTH_MAX or "\n" in reason:
        raise PluginError(f"a pause needs a reason of 1 to {REASON_LENGTH_MAX} characters, in one line.", 2)
    healing = _set(target.cluster(), {"paused": reason}, wait_s, lambda message: "spec.healing.paused" in message)
    typer.echo(f"healing is paused: {reason} (to end it: kubectl betting heal resume)" if healing else _NOT_AWAITED)


@app.command("resume")
@on_cluster
def resume(target: Target, wait_s: Wait = TAKEN_UP_WITHIN_S) -> None:
    """Resume healing after `kubectl betting heal pause`."""
    healing = _set(target.cluster(), {"paused": ""}, wait_s, lambda message: "spec.healing.paused" not in message)
    _say_rest(healing, "healing is no longer paused by the resource")


@app.command("dry-run")
@on_cluster
def dry_run(
    target: Target,
    state: Annotated[str, typer.Argument(metavar="on|off")] = "on",
    wait_s: Wait = TAKEN_UP_WITHIN_S,
) -> None:
    """Diagnose and plan, but take no action; bet-services take over shards of dead owners themselves."""
    from betting_operator.plugin.cluster import PluginError

    if state not in ("on", "off"):
        raise PluginError(f"a dry run is on or off, not {state}.", 2)
    wanted = state == "on"
    healing = _set(
        target.cluster(), {"dryRun": wanted}, wait_s, lambda message: ("spec.healing.dryRun" in message) is wanted
    )
    if wanted:
        typer.echo("dry run is on (to end it: kubectl betting heal dry-run off)" if healing else _NOT_AWAITED)
    else:
        _say_rest(healing, "the dry run is over, as far as the resource says so")


_NOT_AWAITED = "the resource says so now; whether the operator has taken it up was not awaited"


def _set(here: Cluster, changes: Json, wait_s: float, is_said: Callable[[str], bool]) -> Json | None:
    """Changes spec.healing; the condition Healing once the operator has taken that up, None if that is not awaited.

    is_said: whether the condition's message fits. Raises PluginError when it does not within the time.
    """
    from betting_operator.plugin.cluster import PLATFORMS, PluginError

    name = here.platform()["metadata"]["name"]
    generation = here.patch(PLATFORMS, name, {"spec": {"healing": changes}})["metadata"]["generation"]
    if not wait_s:
        return None

    def taken_up(found: Json) -> bool:
        healing = _condition(found)
        return healing.get("observedGeneration", 0) >= generation and healing.get("reason") != "PolicyNotApplied"

    found = here.wait(lambda: here.get(PLATFORMS, name), taken_up, wait_s)
    now = _condition(found) if found is not None else {}
    said = f"{now.get('reason', '')}: {now.get('message', '')}"
    if found is None:
        raise PluginError(
            f"spec.healing of {name} is changed, but its operator has not taken that up within {wait_s:g} s: is it "
            "running? See `kubectl betting status`."
        )
    if now.get("reason") not in ("Running", "Starting", "Paused", "DryRun"):
        raise PluginError(f"spec.healing of {name} is changed, and the healer does not work now: {said}")
    if now.get("reason") != "Starting" and not is_said(now.get("message", "")):
        raise PluginError(f"spec.healing of {name} is changed, but its operator does not know this field: upgrade it.")
    return now


def _say_rest(healing: Json | None, done: str) -> None:
    """What still holds back the healer, by the other place or the other switch."""
    if healing is None:
        typer.echo(_NOT_AWAITED)
    elif healing["reason"] in ("Paused", "DryRun"):
        typer.echo(f"{done}; still {healing['message']}")
    else:
        typer.echo("healing is on")


def _condition(found: Json) -> Json:
    conditions: list[Json] = (found.get("status") or {}).get("conditions") or []
    return next((each for each in conditions if each["type"] == "Healing"), {})


def _healing(found: Json) -> dict[str, Any]:
    return (found.get("spec") or {}).get("healing") or {}


def _flown(target: Target, file: Path | None) -> tuple[list[str], str]:
    """The lines of a flight record, and its name. The last one may not be written whole yet: it is left out then."""
    from betting_operator import flight_files
    from betting_operator.plugin.cluster import PluginError

    if file is not None:
        try:
            with flight_files.opened(file) as lines:
                text, name = lines.read(), str(file)
        except flight_files.UNREADABLE as error:
            raise PluginError(f"{file} cannot be read: {flight_files.why_unreadable(error)}.") from None
    else:
        here, found = target.cluster(), io.BytesIO()
        pod = here.leading_pod()
        newest = f'set -e; cd {_FLIGHT_FOLDER}; cat "$(ls -1 flight-*.jsonl | sort | tail -n 1)"'
        name = f"the newest flight record of {pod}"
        if here.run(pod, ("sh", "-c", newest), found, container="operator"):
            raise PluginError(f"{name} cannot be read: has the healer run there?")
        text = found.getvalue().decode(errors="replace")
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")], name
