"""What tests do to a running cluster: kill, suspend and start again its programs and nodes."""

from __future__ import annotations

import signal

from minicluster import build, host
from minicluster.engine import nodes_up, state, wait_for_containerd
from minicluster.host import ClusterError
from minicluster.node import NODE_PROGRAMS, Node, attach, cut_off, detach, link_up
from minicluster.programs import Say, start, startable


def kill(name: str, say: Say) -> None:
    """Kill a program, or everything on a node, which goes silent at once like a machine without power.

    Raises ClusterError when there is nothing of that name.
    """
    groups = _groups(name)
    node = _node(name)
    if not host.members(*groups):
        raise ClusterError(f"{name} does not run")
    if node:
        cut_off(node)
    host.kill(*groups)
    say(f"{name} is killed")


def start_again(name: str, say: Say) -> None:
    """Start a program or a node that was killed. Raises ClusterError when it runs, or there is none of that name."""
    if host.members(*_groups(name)):
        raise ClusterError(f"{name} runs: {state(*_groups(name))}")
    noted, node = startable(), _node(name)
    if node is None:
        start(noted[name])
    else:
        detach(node)
        host.remove_cgroups(node.pods_group)  # or the kubelet looks for the containers that were in it
        host.make_cgroup(node.pods_group, cpu_weight=host.PODS_CPU_WEIGHT)
        attach(node, nodes_up(), build.build(["pause"])["pause"])
        engine = start(noted[f"{name}-containerd"])
        wait_for_containerd(node, {f"{name}-containerd": engine})
        for program in NODE_PROGRAMS[1:]:
            start(noted[f"{name}-{program}"])
    say(f"{name} is started")


def cut(name: str, say: Say) -> None:
    """Take a node's link down. Raises ClusterError when there is no node of that name."""
    cut_off(_required(name))
    say(f"{name} is cut off")


def join(name: str, say: Say) -> None:
    """Take the link of a node that was cut off up again. Raises ClusterError when there is no node of that name."""
    link_up(_required(name))
    say(f"{name} is connected")


def send(name: str, signal_number: signal.Signals, say: Say) -> None:
    """Send a signal to a program or to everything on a node. Raises ClusterError when there is none of that name."""
    host.send(signal_number, host.members(*_groups(name)))
    say(f"{name} has got {signal_number.name}")


def _required(name: str) -> Node:
    host.require_linux_and_root()
    node = _node(name)
    if node is None:
        raise ClusterError(f"there is no node {name}; there are {', '.join(each.name for each in nodes_up())}")
    return node


def _node(name: str) -> Node | None:
    return next((node for node in nodes_up() if node.name == name), None)


def _groups(name: str) -> list[str]:
    """The control groups of a program, or of everything on a node."""
    host.require_linux_and_root()
    if _node(name):
        return [f"{name}-{part}" for part in ("namespaces", "commands", "pods", *NODE_PROGRAMS)]
    programs = startable()
    if name not in programs:
        raise ClusterError(f"there is no {name}; there are the nodes, and the programs {', '.join(programs)}")
    return [name]
