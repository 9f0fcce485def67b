"""The cluster that the scenarios run on: brought up and removed, with the image loaded, or the one there is."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from platform_under_test import Installed
from tools import CHECKOUT, CLUSTER, RESULTS, Failed, items, python, run, say, show

HTTP_PORT = CLUSTER / "http-port"  # written by hack/cluster.py
DEFAULT_HTTP_PORT = "18080"
SHARDS = 16
IMAGE = CLUSTER / "images" / "betting.tar"
VARIANTS = CLUSTER / "images" / "e2e.tar"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What every program on a cluster has."""
    parser.add_argument("--keep", action="store_true", help="leave the cluster up")
    parser.add_argument("--no-build", action="store_true", help="use the image that was built last")
    parser.add_argument(
        "--use-running", action="store_true", help="use the cluster that KUBECONFIG names, and leave it up"
    )


def on_cluster(options: argparse.Namespace, prove: Callable[[argparse.Namespace], int]) -> int:
    """Builds the image and proves something on a cluster that is there for that long. The exit code: what prove
    returns; 1: something could not be tried; 130: interrupted, also by SIGTERM, and what was begun is cleaned up."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _build(options)  # first: it says within a second what it lacks
        with _cluster(options):
            return prove(options)
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _cluster(options: argparse.Namespace) -> Iterator[None]:
    """A cluster for the length of a block, or the one there is."""
    program = CHECKOUT / "hack" / "cluster.py"
    if options.use_running:
        yield
        return
    show(python(), program, "up")
    try:
        os.environ["KUBECONFIG"] = str(CLUSTER / "kubeconfig")
        os.environ["PATH"] = f"{CLUSTER / 'bin'}{os.pathsep}{os.environ['PATH']}"
        yield
    finally:
        if options.keep:
            say(f"the cluster stays: export KUBECONFIG={CLUSTER / 'kubeconfig'} PATH={CLUSTER / 'bin'}:$PATH")
        else:
            for number in (signal.SIGINT, signal.SIGTERM):  # a second one must not leave half a cluster
                signal.signal(number, signal.SIG_IGN)
            show(python(), program, "down")


def _build(options: argparse.Namespace) -> None:
    """Builds the image. Raises Failed, within a second where something is lacking for it."""
    if not options.no_build:
        show(python(), CHECKOUT / "hack" / "image.py", "--output", IMAGE)
    if not IMAGE.is_file():
        raise Failed(f"there is no {IMAGE}: build it (make image), or leave --no-build out")


def gateway_url() -> str:
    """Where the gateway's NodePort is reached from here."""
    ours = os.environ.get("KUBECONFIG") == str(CLUSTER / "kubeconfig") and HTTP_PORT.exists()
    return f"http://127.0.0.1:{HTTP_PORT.read_text('utf-8') if ours else DEFAULT_HTTP_PORT}"


def saved(name: str, platform: Installed) -> Path:
    """Writes down the state of the platform and the operator's logs, for whoever looks for the cause."""
    at = f"--namespace={platform.namespace}"
    operator = "--selector=app.kubernetes.io/name=betting-operator"
    ours = "--selector=app.kubernetes.io/part-of=betting"
    commands = (
        ("get", "bettingplatforms,healingactions", at, "--output=yaml"),
        ("get", "all", at, "--output=wide"),
        ("get", "events", at, "--sort-by=.lastTimestamp"),
        ("get", "endpointslices", at, "--output=wide"),
        ("get", "lease", "betting-operator", at, "--output=yaml"),
        ("logs", at, operator, "--tail=400", "--prefix"),
        ("logs", at, operator, "--tail=200", "--prefix", "--previous"),
        ("logs", at, ours, "--tail=60", "--prefix", "--max-log-requests=60"),
    )
    cluster = (str(python()), str(CHECKOUT / "hack" / "cluster.py"), "exec")
    nodes: list[str] = []
    with contextlib.suppress(Failed):
        nodes = [each["metadata"]["name"] for each in items("nodes")]
    firewalls = [(*cluster, node, *each) for node in nodes for each in (("iptables-save",), ("ipset", "save"))]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.log"
    with path.open("w", encoding="utf-8") as file:
        for command in [*(("kubectl", *each) for each in commands), *firewalls]:
            file.write(f"\n$ {' '.join(command)}\n")
            try:
                file.write(run(*command, timeout_s=60.0))
            except Failed as error:
                file.write(str(error))
    return path
