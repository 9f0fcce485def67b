"""The cluster's programs: started in their namespaces and control groups, watched while the cluster comes up."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from minicluster import host
from minicluster.host import ClusterError

STATE = Path(__file__).resolve().parents[2] / ".cluster"
RUN = STATE / "run"
"""What the running cluster needs; removed with it."""
LOGS = STATE / "log"
"""What the programs print; kept until the next cluster starts."""
KUBECONFIG = STATE / "kubeconfig"
HTTP_PORT = STATE / "http-port"
"""The port of 127.0.0.1 that leads to the gateway's NodePort, whichever engine the cluster is of; gone with it."""
DEFAULT_HTTP_PORT = 18080
DEFAULT_NODES = 3
BIN = STATE / "bin"
_NOTES = RUN / "programs"
_LOG_TAIL_LINES = 15

Say = Callable[[str], None]
"""Tells the person at the terminal what was done."""


@dataclass(frozen=True)
class Program:
    """A program of the cluster, in the namespaces of a node or of the control plane; its control group has its name."""

    name: str
    namespaces: str
    command: list[str]


def start(program: Program, *, inherited: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start the program, and note how, for startable(); it outlives this process.

    `inherited` are file descriptors that it keeps open; a program with such cannot be started again.
    """
    if not inherited:
        note = _NOTES / f"{program.name}.json"
        note.parent.mkdir(exist_ok=True)
        note.write_text(json.dumps(asdict(program)), "utf-8")
    host.make_cgroup(program.name)
    command = host.entering(program.name, _in_namespaces(program.namespaces, program.command))
    return _spawn(program.name, command, inherited)


def startable() -> dict[str, Program]:
    """The programs that start() noted, by name, whether they run or not."""
    notes = sorted(_NOTES.glob("*.json"))
    return {note.stem: Program(**json.loads(note.read_text("utf-8"))) for note in notes}


def hold_namespaces(name: str, pause: Path, setup: str, *, under: str | None = None) -> None:
    """Make a network and a mount namespace called `name`, and run the shell commands `setup` in it first.

    A process that only waits keeps them. Everything mounted and every network device there ends with the last process.
    What is mounted in the namespaces `under`, which are there already, is mounted in the new ones too.
    """
    holder = f"{name}-namespaces"
    for group in (holder, _commands_group(name)):
        host.make_cgroup(group)
    script = f"set -e\n{setup}\necho ready\nexec {shlex.quote(str(pause))} >/dev/null"
    command = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", script]
    if under:
        command = _in_namespaces(under, command)
    process = _spawn(holder, host.entering(holder, command), (), stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        if process.stdout.readline() != b"ready\n":
            raise ClusterError(f"the namespaces of {name} could not be set up\n{log_tail(holder)}")


def entering(namespaces: str, command: list[str]) -> list[str]:
    """The command, run in the namespaces of that name, so that it ends with the cluster at the latest.

    Raises ClusterError when these namespaces are not there.
    """
    return host.entering(_commands_group(namespaces), _in_namespaces(namespaces, command))


def holder_pid(namespaces: str) -> int:
    """The process that holds these namespaces. Raises ClusterError when they are not there."""
    pids = host.members(f"{namespaces}-namespaces")
    if not pids:
        raise ClusterError(f"{namespaces} is not up")
    return min(pids)


def _in_namespaces(namespaces: str, command: list[str]) -> list[str]:
    pid = holder_pid(namespaces)
    return ["nsenter", f"--net=/proc/{pid}/ns/net", f"--mount=/proc/{pid}/ns/mnt", "--", *command]


def _commands_group(namespaces: str) -> str:
    return f"{namespaces}-commands"


def run(command: list[str], *, sent: str = "") -> str:
    """Run a command to its end; return what it prints. Raises ClusterError with its own words when it fails."""
    done = subprocess.run(command, input=sent, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        own = command[command.index("--") + 1 :] if command[0] == "sh" else command  # without how it got where it ran
        raise ClusterError(f"failed: {' '.join(own)}\n{(done.stderr or done.stdout).strip()}")
    return done.stdout


def kubectl(*arguments: str, sent: str = "") -> str:
    """Run kubectl as the cluster's administrator; return what it prints. Raises ClusterError with its words."""
    return run([str(BIN / "kubectl"), f"--kubeconfig={KUBECONFIG}", *arguments], sent=sent)


def http_port() -> int:
    """The port of 127.0.0.1 that leads to the gateway's NodePort. Raises ClusterError when nothing says it."""
    try:
        return int(HTTP_PORT.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        raise ClusterError(
            f"{HTTP_PORT} does not say the cluster's port: make cluster-down, then make cluster"
        ) from None


def refuse_other(nodes: int, wanted_nodes: int | None, wanted_port: int | None) -> None:
    """Raise ClusterError unless the cluster that is up has these nodes and this port. None: whatever it has."""
    differs = []
    if wanted_nodes not in (None, nodes):
        differs.append(f"{nodes} nodes, not {wanted_nodes}")
    if wanted_port not in (None, http_port()):
        differs.append(f"port {http_port()}, not {wanted_port}")
    if differs:
        raise ClusterError(f"the cluster that is up has {' and '.join(differs)}: make cluster-down first")


def wait_until(
    what: str,
    ready: Callable[[], bool],
    needs: dict[str, subprocess.Popen[bytes]],
    *,
    timeout_s: float,
    explain: Callable[[], str] = lambda: "",
) -> None:
    """Return when `ready` says so; where it raises ClusterError, it is not.

    Raises ClusterError: when one of the processes it needs ends, with the end of its log; when it takes longer, with
    what is waited for and what `explain` says of it.
    """
    deadline = time.monotonic() + timeout_s
    while not _holds(ready):
        for name, process in needs.items():
            if process.poll() is not None:
                raise ClusterError(f"{name} ended with code {process.returncode}\n{log_tail(name)}")
        if time.monotonic() > deadline:
            try:
                why = explain()
            except ClusterError as error:
                why = str(error)
            raise ClusterError(f"{what}: not so after {timeout_s:.0f} s; logs are in {LOGS}\n{why}")
        time.sleep(0.1)


def _holds(ready: Callable[[], bool]) -> bool:
    try:
        return ready()
    except ClusterError:
        return False


def log_tail(name: str) -> str:
    """The last lines that a program printed, under the name of the file that has all."""
    log = LOGS / f"{name}.log"
    lines = log.read_text("utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n".join([f"the end of {log}:", *(f"  {line}" for line in lines[-_LOG_TAIL_LINES:])])


def _spawn(
    name: str, command: list[str], inherited: Sequence[int], *, stdout: int | None = None
) -> subprocess.Popen[bytes]:
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log if stdout is None else stdout,
            stderr=log,
            cwd="/",
            env={name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
            start_new_session=True,  # a terminal's Ctrl-C ends hack/cluster.py, which then cleans up
            pass_fds=inherited,
        )
