"""How a platform is: its status, its shards, its money, its logs; and shards that are served again."""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from betting_operator.plugin.options import Output, Shown, Target

if TYPE_CHECKING:
    from betting_operator.plugin.cluster import Cluster, Json

# Of a table that goes into a pipe: nothing in it is cut off before.
PIPE_WIDTH = 200
_SHARD = re.compile(r"shard (\d+) (\S+) owner=(\S+) epoch=(\d+) open_bets=(\d+)")
_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_SINCE = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def status(
    target: Target,
    output: Shown = Output.TABLE,
    instances: Annotated[
        bool, typer.Option("--instances", help="Also every instance, as the health monitor sees it (pods/exec).")
    ] = False,
) -> None:
    """Show how the platform is: conditions, shards, Redis, what is wrong, and whether it may be healed.

    Exit code 1 while it is not Ready.
    """
    here = target.cluster()
    found = here.platform()
    state = found.get("status") or {}
    if output is Output.JSON:
        metadata = found["metadata"]
        healing = (found.get("spec") or {}).get("healing") or {}
        shown = {"name": metadata["name"], "namespace": metadata["namespace"], "healing": healing, "status": state}
        typer.echo(json.dumps(shown, indent=2))
    else:
        _show(found)
        if instances:
            monitor(here, found["metadata"]["name"])
    conditions = {each["type"]: each["status"] for each in state.get("conditions") or ()}
    raise typer.Exit(0 if conditions.get("Ready") == "True" else 1)


def shards(target: Target, output: Shown = Output.TABLE) -> None:
    """Show who owns which shard. Needs pods/exec."""
    here = target.cluster()
    told = io.BytesIO()
    code = monitor(here, here.platform()["metadata"]["name"], told)
    text = told.getvalue().decode(errors="replace")
    found = shard_rows(text)
    if code or not found:
        typer.echo(text, nl=False, err=True)
        raise typer.Exit(code or 1)
    if output is Output.JSON:
        typer.echo(json.dumps(found, indent=2))
        return
    table(("shard", "state", "owner", "epoch", "open bets"), [tuple(each.values()) for each in found])
    for line in text.splitlines():
        if re.match(r"shard \d+ is ", line):
            typer.echo(line.replace("betting unfreeze", "kubectl betting thaw"))


def shard_rows(text: str) -> list[dict[str, int | str]]:
    """The shards in what `betting status --plain` prints."""
    found = [match.groups() for line in text.splitlines() if (match := _SHARD.fullmatch(line))]
    return [
        {"shard": int(shard), "state": state, "owner": owner, "epoch": int(epoch), "openBets": int(open_bets)}
        for shard, state, owner, epoch, open_bets in found
    ]


def thaw(
    target: Target,
    numbers: Annotated[list[int] | None, typer.Argument(min=0, metavar="[SHARD]...", help="Numbers of shards.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that are frozen or quarantined.")] = False,
) -> None:
    """Serve frozen or quarantined shards again, after you have removed the cause. Needs pods/exec."""
    from betting_operator.plugin.cluster import PluginError

    if every == bool(numbers):
        raise PluginError("name the shards to thaw, or give --all: see `kubectl betting shards`.", 2)
    here = target.cluster()
    arguments = ["--all"] if every else [str(each) for each in numbers or ()]
    raise typer.Exit(here.betting(here.platform()["metadata"]["name"], "unfreeze", *arguments))


def audit(target: Target, output: Shown = Output.TABLE) -> None:
    """Check every promise about money against the journal. Needs pods/exec.

    Exit code 0: everything holds. 1: a check failed. 2: the audit could not run.
    """
    here = target.cluster()
    arguments = ["--json"] if output is Output.JSON else []
    raise typer.Exit(here.betting(here.platform()["metadata"]["name"], "audit", *arguments))


def logs(
    target: Target,
    correlation_id: Annotated[str, typer.Argument(metavar="ID", help="The X-Correlation-Id of a reply.")],
    since: Annotated[str, typer.Option(help="How far back: 30s, 15m, 2h, 1d.")] = "1h",
) -> None:
    """Show what every pod logged about one request, in order of time. Exit code 1: nothing was found.

    Kubernetes keeps the logs of pods that exist; of those that were replaced your log collector may have more.
    """
    from betting_operator.plugin.cluster import PluginError

    if not _ID.fullmatch(correlation_id):
        raise PluginError(f"{correlation_id[:80]!a} is no correlation id: 1 to 64 letters, digits and .:_-", 2)
    if (how_far := _SINCE.fullmatch(since)) is None:
        raise PluginError(f"{since[:20]!a} is no time: give 30s, 15m, 2h or 1d to --since.", 2)
    since_s = max(1, int(how_far[1]) * _SECONDS[how_far[2]])
    here = target.cluster()
    found: list[tuple[str, str]] = []
    pods = here.pods(here.platform()["metadata"]["name"])
    for pod in pods:
        for container in pod["spec"]["containers"]:
            try:
                text = here.log(pod["metadata"]["name"], container["name"], since_s).decode(errors="replace")
            except PluginError as error:
                typer.echo(f"left out: {error}", err=True)
                continue
            found += [(_time(line), f"{pod['metadata']['name']}  {line}") for line in about(text, correlation_id)]
    if not found:
        raise PluginError(f"no line about {correlation_id} in the last {since} of {len(pods)} pods.")
    for _at, line in sorted(found):
        typer.echo(line)


def about(text: str, correlation_id: str) -> list[str]:
    """The lines that name this request, and no longer id that it is a part of."""
    word = re.compile(rf"(?<![A-Za-z0-9._:-]){re.escape(correlation_id)}(?![A-Za-z0-9._:-])")
    return [line for line in text.splitlines() if word.search(line)]


def monitor(here: Cluster, platform: str, out: Any = None) -> int:
    """What the health monitor tells of the platform, line by line."""
    from betting_operator.plugin.cluster import MONITOR

    ask = ("sh", "-c", 'exec betting status --plain --address "$POD_IP:7100"')
    return here.run(here.pod_of(platform, MONITOR), ask, out)


def table(names: tuple[str, ...], rows: list[Any]) -> None:
    """Rows in columns, without lines around them."""
    from rich.console import Console
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        drawn.add_column(name, overflow="fold")
    for row in rows:
        drawn.add_row(*(str(each) for each in row))
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console = Console(markup=False, highlight=False, width=PIPE_WIDTH)
    console.print(drawn)


def _show(found: Json) -> None:
    metadata, state = found["metadata"], found.get("status") or {}
    if not state:
        typer.echo(f"{metadata['name']}: no operator has said anything about it yet")
        return
    typer.echo(f"{metadata['name']}  {state.get('phase', 'unknown')}  {state.get('image', 'no image yet')}")
    if message := state.get("message"):
        typer.echo(message)
    redis, parts = state.get("redis") or {}, []
    if state.get("shards"):
        parts.append(f"{state['shards']['summary']} shards are owned")
    if redis.get("primary"):
        parts.append(f"Redis primary {redis['primary']} ({redis.get('phase')}, epoch {redis.get('epoch')})")
    if state.get("schemaVersion"):
        parts.append(f"schema {state['schemaVersion']}")
    if parts:
        typer.echo(", ".join(parts))
    typer.echo("")
    conditions = state.get("conditions") or ()
    rows = [(each["type"], each["status"], each["reason"], each.get("message", "")) for each in conditions]
    table(("condition", "status", "reason", "message"), rows)
    if diagnoses := state.get("activeDiagnoses"):
        names = ("kind", "target", "certainty", "since", "message")
        typer.echo("")
        table(("wrong now", *names[1:]), [tuple(each.get(name, "") for name in names) for each in diagnoses])


def _time(line: str) -> str:
    """When a line was written, as it says itself: ISO 8601, which sorts."""
    try:
        fields = json.loads(line)
    except ValueError:
        return ""
    return str(fields.get("timestamp", "")) if isinstance(fields, dict) else ""
