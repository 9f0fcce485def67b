"""Planned moves of shards between bet-services, as ShardRebalances: proposed, approved, stopped."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from betting_operator.plugin.options import Output, Shown, Target, on_cluster

if TYPE_CHECKING:
    from betting_operator.plugin.cluster import Json

PLANNED_WITHIN_S = 20.0
MOVES_SHOWN = 20
# Phases in which it has ended: nothing can be approved or stopped any more.
ENDED = ("Done", "Stopped", "Refused", "Superseded")

app = typer.Typer(no_args_is_help=True, help="Planned moves of shards: propose, approve, stop.")

Wait = Annotated[float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for the plan.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the ShardRebalance: kubectl get shardrebalances.")]


@app.command("propose")
@on_cluster
def propose(
    target: Target,
    drain: Annotated[
        list[str] | None, typer.Option("--drain", metavar="POD", help="A bet-service to empty; may be given again.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for whoever reads it later.")] = "",
    wait_s: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for the plan.")
    ] = (PLANNED_WITHIN_S),
    output: Shown = Output.TABLE,
) -> None:
    """Propose moves: for balance, or to empty pods. Shows the plan and what it costs."""
    from betting_operator.plugin.cluster import REBALANCES, PluginError

    here = target.cluster()
    platform = here.platform()["metadata"]["name"]
    spec = {"platform": platform, "reason": reason, "drain": drain or []}
    made = here.create(REBALANCES, {"metadata": {"generateName": f"{platform}-"}, "spec": spec})
    name = made["metadata"]["name"]
    found = here.wait(lambda: here.get(REBALANCES, name), _is_planned, wait_s)
    if found is None:
        raise PluginError(f"{name} is proposed, and has no plan within {wait_s:g} s: is the operator running?")
    _show(found, output)
    if (found["status"]["phase"]) == "AwaitingApproval" and output is Output.TABLE:
        plan = found["status"]["plan"]["hash"]
        typer.echo(f"to approve it: kubectl betting rebalance approve {name} --plan {plan}")
    if found["status"]["phase"] == "Refused":
        raise typer.Exit(1)


@app.command("approve")
@on_cluster
def approve(
    target: Target,
    name: Name,
    plan: Annotated[
        str | None,
        typer.Option(metavar="HASH", help="The plan that you have seen; without it you are asked."),
    ] = None,
) -> None:
    """Approve the plan of a proposal, and no other: one that has changed since is refused, and nothing is done."""
    from betting_operator.plugin.cluster import REBALANCES, PluginError

    here = target.cluster()
    found = here.get(REBALANCES, name)
    _require_open(found, name, "approved")
    if not _is_planned(found):
        raise PluginError(f"{name} has no plan yet: wait for one (kubectl get shardrebalance {name}).")
    current = found["status"].get("plan", {}).get("hash", "")
    if plan is None:
        _show(found, Output.TABLE)
        if not sys.stdin.isatty():
            raise PluginError(f"say which plan you have seen: --plan {current}. Nothing was done.", 2)
        if not typer.confirm("Approve this plan?"):
            raise PluginError("nothing was done.")
    elif plan != current:
        raise PluginError(f"the plan of {name} is {current} now, not {plan[:64]}: look at it anew. Nothing was done.")
    changes = {"metadata": {"resourceVersion": found["metadata"]["resourceVersion"]}, "spec": {"approval": current}}
    here.patch(REBALANCES, name, changes)
    typer.echo(f"plan {current} of {name} is approved")


@app.command("stop")
@on_cluster
def stop(target: Target, name: Name) -> None:
    """Begin no further move; pods that were emptied may own shards again. A stop cannot be taken back.

    Hand-overs that were begun are completed.
    """
    from betting_operator.plugin.cluster import REBALANCES

    here = target.cluster()
    found = here.get(REBALANCES, name)
    keeps_empty = found["spec"].get("drain") and not found["spec"].get("stop")
    if (found.get("status") or {}).get("phase") != "Done" or not keeps_empty:
        _require_open(found, name, "stopped")
    here.patch(REBALANCES, name, {"spec": {"stop": True}})
    typer.echo(f"{name} is stopped: no further move begins, and its pods may own shards again")


def _is_planned(found: Json) -> bool:
    state = found.get("status") or {}
    return state.get("phase") not in (None, "Proposed")


def _require_open(found: Json, name: str, what: str) -> None:
    from betting_operator.plugin.cluster import PluginError

    state: dict[str, Any] = found.get("status") or {}
    if state.get("phase") in ENDED:
        why = f" ({state['message']})" if state.get("message") else ""
        raise PluginError(f"{name} is {state['phase']}{why}: it cannot be {what} any more. Nothing was done.")


def _show(found: Json, output: Output) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps({"name": found["metadata"]["name"], **found["status"]}, indent=2))
        return
    from betting_operator.plugin.platform import table

    state = found["status"]
    plan = state.get("plan") or {}
    typer.echo(f"{found['metadata']['name']}  {state['phase']}  plan {plan.get('hash', '-')}")
    if state.get("message"):
        typer.echo(state["message"])
    moves, cost = plan.get("moves") or [], plan.get("cost") or {}
    if moves:
        table(("shard", "from", "to"), [(each["shard"], each["from"], each["to"]) for each in moves[:MOVES_SHOWN]])
    if len(moves) > MOVES_SHOWN:
        typer.echo(f"and {len(moves) - MOVES_SHOWN} more (-o json has all)")
    if cost:
        size_mib, pause_ms = cost.get("bytes", 0) / 2**20, cost.get("pauseMilliseconds", 0)
        about = f"{cost.get('shards', len(moves))} shards, {size_mib:.1f} MiB, about {cost.get('seconds', 0)} s"
        typer.echo(f"cost: {about}; a bet on the largest waits about {pause_ms} ms")
