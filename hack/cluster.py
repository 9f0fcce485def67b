"""A Kubernetes cluster of three nodes in three zones on this machine, for trying and testing the platform.

With Docker or Podman and kind it is kind's cluster. Otherwise it is the minicluster: the real Kubernetes programs,
built from their Go modules and run as root without a container engine. docs/operator/cluster.md says more.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from kind import engine as kind
from minicluster import check, engine, faults, host, programs, storage

UNFIT_MACHINE = 3


def main() -> int:
    """Exit code 1 with a message when what was asked cannot be done, 3 when that is because this machine lacks or
    forbids what a cluster needs (nothing was built or changed then), 130 after an interruption."""
    arguments = _parser().parse_args()
    host.find_programs()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # as a shell lets its jobs in the background ignore SIGINT
            signal.signal(number, _interrupt)
    try:
        arguments.run(arguments)
    except host.ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return UNFIT_MACHINE if isinstance(error, host.UnfitMachineError) else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="bring the cluster up, and print how kubectl and helm find it")
    nodes = f"worker nodes, each in a zone of its own (default {programs.DEFAULT_NODES})"
    up.add_argument("--nodes", type=int, help=nodes)
    up.add_argument(
        "--engine", choices=["auto", "kind", "minicluster"], default="auto", help="default: auto, as said by --help"
    )
    up.add_argument(
        "--http-port",
        type=_port,
        metavar="PORT",
        help=f"port of 127.0.0.1 that leads to NodePort {engine.GATEWAY_NODE_PORT} "
        f"(default {programs.DEFAULT_HTTP_PORT})",
    )
    up.set_defaults(run=_up)
    load = commands.add_parser("load", help="bring an image archive into every node")
    load.add_argument("image", type=Path, metavar="IMAGE.tar", help="an OCI or Docker archive")
    load.set_defaults(run=_load)
    commands.add_parser("status", help="show what runs").set_defaults(run=_status)
    commands.add_parser("down", help="remove the cluster, or what is left of it").set_defaults(run=_down)

    clean = commands.add_parser("clean-volumes", help="minicluster: empty volumes without a claim and offer them again")
    clean.set_defaults(run=lambda _: storage.clean(engine.nodes_up(), _Progress()))
    run_in = commands.add_parser("exec", help="minicluster: run a command in a node, or in the control plane's network")
    run_in.add_argument("place", help="n1, n2, … or control-plane")
    run_in.add_argument("command", nargs=argparse.REMAINDER)
    run_in.set_defaults(run=_exec)
    for name, what in (
        ("kill", "kill a program (as status names it), or a node: everything on it, as if its power failed"),
        ("start", "start a program or a node that was killed"),
        ("suspend", "stop a program, or everything on a node, by SIGSTOP"),
        ("resume", "let it continue"),
        ("cut", "take the link of a node down: everything on it runs on, and nobody hears it"),
        ("join", "take the link of a node up again"),
    ):
        fault = commands.add_parser(name, help=f"minicluster, for tests: {what}")
        fault.add_argument("name", help="n1, apiserver, n1-kubelet, …")
        fault.set_defaults(run=_fault, fault=name)
    checks = commands.add_parser(
        "check", help="minicluster: up, try what it should do, down, and see that nothing is left"
    )
    checks.add_argument("--rounds", type=int, default=5)
    checks.set_defaults(run=lambda arguments: check.check(arguments.rounds, _Progress()))
    return parser


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text}: from 1 to 65535")
    return int(text)


def _up(arguments: argparse.Namespace) -> None:
    progress = _Progress()
    if _wants_kind(arguments.engine):
        if engine.is_up():
            raise host.ClusterError("the minicluster is up: make cluster-down first")
        kind.up(arguments.nodes, arguments.http_port, progress)
    else:
        if kind.is_ours():
            raise host.ClusterError("kind's cluster is up: make cluster-down first")
        engine.up(arguments.nodes, arguments.http_port, progress)
    print(f"http://127.0.0.1:{programs.http_port()} leads to NodePort {engine.GATEWAY_NODE_PORT}")
    print(f"export KUBECONFIG={shlex.quote(str(programs.KUBECONFIG))} PATH={shlex.quote(str(programs.BIN))}:$PATH")


def _wants_kind(chosen: str) -> bool:
    if chosen != "auto":
        return chosen == "kind"
    if engine.is_up():
        return False
    if kind.is_ours():
        return True
    container_engine = kind.container_engine()
    if container_engine and shutil.which("kind") is None:
        print(
            f"{container_engine} answers, but kind is not installed (https://kind.sigs.k8s.io): using the minicluster"
        )
        return False
    return container_engine is not None


def _load(arguments: argparse.Namespace) -> None:
    if not arguments.image.is_file():
        raise host.ClusterError(f"there is no image archive {arguments.image}")
    (kind if kind.is_ours() else engine).load(arguments.image.resolve(), _Progress())


def _status(_: argparse.Namespace) -> None:
    print((kind if kind.is_ours() else engine).status())


def _down(_: argparse.Namespace) -> None:
    if kind.is_ours():
        kind.down(_Progress())
    else:
        engine.down(_Progress())


def _exec(arguments: argparse.Namespace) -> None:
    words = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    command = engine.command_in(arguments.place, words or ["sh"])
    os.execvp(command[0], command)  # noqa: S606 - what this command is for


def _fault(arguments: argparse.Namespace) -> None:
    match arguments.fault:
        case "kill":
            faults.kill(arguments.name, _Progress())
        case "start":
            faults.start_again(arguments.name, _Progress())
        case "suspend":
            faults.send(arguments.name, signal.SIGSTOP, _Progress())
        case "resume":
            faults.send(arguments.name, signal.SIGCONT, _Progress())
        case "cut":
            faults.cut(arguments.name, _Progress())
        case "join":
            faults.join(arguments.name, _Progress())


class _Progress:
    """Prints what was done and the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # a second one must not leave half a cluster
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
