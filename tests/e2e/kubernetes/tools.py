"""What every scenario is written with: kubectl, helm, waiting with a deadline and a line of progress."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[3]
CLUSTER = CHECKOUT / ".cluster"
RESULTS = CHECKOUT / "e2e-results"
POLL_S = 0.5
_COMMAND_TIMEOUT_S = 300.0
_FORWARDING = re.compile(rb"Forwarding from 127\.0\.0\.1:(\d+)")
_began_s = time.monotonic()


class Failed(Exception):
    """A scenario does not hold; the message says what was expected and what was seen."""


class Skipped(Exception):
    """A scenario cannot be run on this cluster; the message says why."""


def say(line: str) -> None:
    """A line of progress, with the seconds since the start."""
    print(f"{time.monotonic() - _began_s:7.1f} s  {line}", flush=True)


def expect(holds: object, message: str) -> None:
    """Raises Failed with the message unless it holds."""
    if not holds:
        raise Failed(message)


def run(*command: str | Path, sent: str | None = None, timeout_s: float = _COMMAND_TIMEOUT_S) -> str:
    """A command's output. Raises Failed with the command's own words when it fails or takes too long."""
    words = [str(each) for each in command]
    try:
        done = subprocess.run(words, input=sent, capture_output=True, text=True, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(words)}: not done after {timeout_s:.0f} s") from None
    except FileNotFoundError:
        raise Failed(f"{words[0]} is not there: it comes with the cluster (make cluster), or is installed") from None
    if done.returncode != 0:
        raise Failed(f"{' '.join(words)}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def show(*command: str | Path) -> None:
    """Runs a command whose own lines of progress are shown. Raises Failed when it fails.

    After an interruption it returns only when the command has ended by SIGTERM, so that it cleans up: a cluster that
    was half up is gone then.
    """
    words = [str(each) for each in command]
    process = subprocess.Popen(words, cwd=CHECKOUT)
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if code != 0:
        raise Failed(f"{' '.join(words)} ended with code {code}")


def kubectl(*arguments: str, sent: str | None = None, timeout_s: float = _COMMAND_TIMEOUT_S) -> str:
    """kubectl's output. Raises Failed."""
    return run("kubectl", *arguments, sent=sent, timeout_s=timeout_s)


def got(*arguments: str) -> dict[str, Any]:
    """What `kubectl get … --output=json` says. Raises Failed."""
    found: dict[str, Any] = json.loads(kubectl("get", *arguments, "--output=json"))
    return found


def items(*arguments: str) -> list[dict[str, Any]]:
    """The objects of a list that kubectl gets."""
    found: list[dict[str, Any]] = got(*arguments)["items"]
    return found


def helm(*arguments: str) -> str:
    """helm's output. Raises Failed."""
    return run("helm", *arguments)


def wait_for(what: str, holds: Callable[[], object], within_s: float, why: Callable[[], str] = lambda: "") -> float:
    """Asks until it holds; returns the seconds that took. An error of kubectl is "not yet".

    Raises Failed, with what `why` says or the last error, when it does not hold in time.
    """
    began_s = time.monotonic()
    problem = ""
    while True:
        try:
            if holds():
                return time.monotonic() - began_s
            problem = ""
        except Failed as error:
            problem = str(error)
        if time.monotonic() - began_s > within_s:
            raise Failed(f"{what}: not so after {within_s:.0f} s. {problem or _told(why)}".strip())
        time.sleep(POLL_S)


def stays(what: str, holds: Callable[[], object], for_s: float) -> None:
    """Raises Failed as soon as it does not hold, within this time."""
    until_s = time.monotonic() + for_s
    while time.monotonic() < until_s:
        expect(holds(), f"{what}: not any more")
        time.sleep(POLL_S)


def _told(why: Callable[[], str]) -> str:
    with contextlib.suppress(Failed):
        return why()
    return ""


@contextlib.contextmanager
def forwarded(namespace: str, target: str, port: int) -> Iterator[int]:
    """A port of 127.0.0.1 that leads to a pod's: `kubectl port-forward`."""
    command = ["kubectl", "port-forward", f"--namespace={namespace}", target, f":{port}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    timer = threading.Timer(20.0, process.kill)
    timer.start()
    try:
        line = process.stdout.readline()
        found = _FORWARDING.search(line)
        timer.cancel()
        if found is None:
            process.kill()
            raise Failed(f"{' '.join(command)}: {process.communicate()[1].decode()[-500:]}")
        yield int(found[1])
    finally:
        timer.cancel()
        process.kill()
        process.communicate()


def patch(namespace: str, what: str, **changes: Any) -> None:
    """`kubectl patch --type=merge` of top-level fields: patch("betting", "bp/demo", spec={…})."""
    kubectl("patch", f"--namespace={namespace}", what, "--type=merge", f"--patch={json.dumps(changes)}")


# --- processes of pods, which run on this machine when the cluster does


def processes(is_wanted: Callable[[list[str], dict[str, str]], bool]) -> list[int]:
    """The ids of processes on this machine by their command line and environment; needs root."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            environment = dict(
                line.split("=", 1)
                for line in (folder / "environ").read_bytes().decode(errors="replace").split("\0")
                if "=" in line
            )
            if is_wanted(command, environment):
                found.append(int(folder.name))
    return found


def operator_processes(pod: str) -> list[int]:
    """The operator's processes of a pod that run on this machine: one, where the nodes do."""

    def is_it(command: list[str], environment: dict[str, str]) -> bool:
        return "betting_operator.kubernetes" in command and environment.get("OPERATOR_POD") == pod

    return processes(is_it)


def api_server_processes() -> list[int]:
    """The API server's processes that run on this machine: one, where the control plane does."""
    address = got("endpointslices", "kubernetes", "--namespace=default")["endpoints"][0]["addresses"][0]
    wanted = f"--advertise-address={address}"
    return processes(lambda command, _: command[0].endswith("kube-apiserver") and wanted in command)


def only(found: list[int], of: str) -> int:
    """The one process found. Raises Failed."""
    expect(len(found) == 1, f"{len(found)} processes of {of} on this machine, not one: {found}")
    return found[0]


def is_minicluster_here() -> bool:
    """Whether the cluster is this checkout's minicluster: all its processes and its audit log are on this machine."""
    return (CLUSTER / "run").is_dir() and os.environ.get("KUBECONFIG") == str(CLUSTER / "kubeconfig")


def require_signals(found: Callable[[], list[int]], of: str) -> None:
    """Raises Skipped where processes of the cluster cannot be sent signals.

    In the minicluster with root they can: a process that is not found there is a fault, which raises Failed.
    """
    if os.geteuid() != 0:
        raise Skipped("signals to processes of the cluster need root on the machine that runs the nodes")
    if is_minicluster_here():
        only(found(), of)
    elif not found():
        raise Skipped(f"no process of {of} is on this machine: the nodes are somewhere else")


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A process stopped by SIGSTOP for the length of a block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def python() -> str:
    """The interpreter of the project's environment."""
    return sys.executable
