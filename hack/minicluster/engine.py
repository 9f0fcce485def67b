"""Kubernetes on this machine without a container engine: up, down, load."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from minicluster import build, control_plane, host, storage
from minicluster.host import ClusterError, UnfitMachineError
from minicluster.images import archive
from minicluster.node import (
    Node,
    attach,
    containerd_answers,
    load_images,
    make_bridge,
    start_containerd,
    start_kubelet,
    start_policies,
)
from minicluster.programs import (
    BIN,
    DEFAULT_HTTP_PORT,
    DEFAULT_NODES,
    HTTP_PORT,
    KUBECONFIG,
    LOGS,
    RUN,
    STATE,
    Program,
    Say,
    entering,
    kubectl,
    log_tail,
    refuse_other,
    start,
    startable,
    wait_until,
)

CHECKOUT = STATE.parent
_ADDONS = Path(__file__).parent / "addons"
_READY = host.MACHINE / "ready"
"""Is there when the cluster is complete; a cluster without it is a leftover."""
_NODES = RUN / "nodes.json"

GATEWAY_NODE_PORT = 30080
_MAX_NODES = 9
_IN_PODS = ("pause", "coredns", "metrics-server")
PROGRAMS = [
    *("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"),
    *("etcd", "kube-router", "helm", "forward", *_IN_PODS),
]


def up(node_count: int | None, http_port: int | None, say: Say) -> None:
    """Bring the cluster up; leave it as it is where it is up.

    None: 3 nodes and port 18080, or what the cluster has that is up. What an interrupted run left behind is removed
    first. When this fails or is interrupted, everything is removed. Raises ClusterError, also where the cluster that is
    up differs from what is asked for, and UnfitMachineError where this machine cannot have one.
    """
    if node_count is not None and not 1 <= node_count <= _MAX_NODES:
        raise ClusterError(f"--nodes {node_count}: from 1 to {_MAX_NODES}")
    require_machine()
    with host.locked():
        _refuse_another_checkout()
        if is_up():
            refuse_other(len(nodes_up()), node_count, http_port)
            say("the cluster is up already")
            return
        if forbidden := host.forbidden():
            raise UnfitMachineError("\n  ".join(["this machine does not allow:", *forbidden]))
        if host.MACHINE.exists() or host.members():
            say("removing what an interrupted run left")
            _remove()
        listeners = {"api": _listen(0), "http": _listen(http_port or DEFAULT_HTTP_PORT)}
        binaries = build.build(PROGRAMS)
        try:
            host.claim(CHECKOUT)
            nodes = [Node(number) for number in range(1, (node_count or DEFAULT_NODES) + 1)]
            _bring_up(nodes, listeners, binaries, say)
            _READY.touch()
        except BaseException:  # an interruption, too
            say("failed: removing what there is of the cluster")
            _remove()
            raise
        finally:
            for listener in listeners.values():
                listener.close()


def require_machine() -> None:
    """Raise UnfitMachineError with everything that this machine lacks."""
    host.require_linux_and_root()
    if lacking := host.missing(build.unbuilt(PROGRAMS)):
        raise UnfitMachineError("\n  ".join(["this machine lacks:", *lacking]))


def down(say: Say) -> None:
    """Remove the cluster, or what there is of it; fine when there is none. Raises ClusterError."""
    host.require_linux_and_root()
    with host.locked():
        _refuse_another_checkout()
        _remove()
        say("the cluster is gone")


def load(image: Path, say: Say) -> None:
    """Bring an image archive (OCI or Docker) into every node, side by side. Raises ClusterError."""
    host.require_linux_and_root()
    nodes = nodes_up()
    with ThreadPoolExecutor(len(nodes)) as pool:
        for _ in pool.map(lambda node: load_images(node, [image]), nodes):
            pass
    say(f"{image.name} is in {len(nodes)} nodes")


def is_up() -> bool:
    """Is this checkout's cluster complete? Parts of it may have been killed since, on purpose."""
    there = host.members(f"{control_plane.NAMESPACES}-namespaces")  # not after the machine was started anew
    return bool(there) and _READY.exists() and host.owner() == CHECKOUT


def status() -> str:
    """What runs of the cluster, for people. Raises ClusterError when there is none."""
    nodes = nodes_up()
    programs = [f"{name:22} {state(name)}" for name in startable()]
    try:
        listed = kubectl("get", "nodes", "--label-columns=topology.kubernetes.io/zone", "--request-timeout=5s")
    except ClusterError as error:
        listed = str(error)
    return "\n".join([f"{len(nodes)} nodes, kubeconfig {KUBECONFIG}", *programs, listed])


def state(*groups: str) -> str:
    """Do the processes in these control groups run, and which are they?"""
    pids = sorted(host.members(*groups))
    states = set()
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            states.add(Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0])
    word = "not running" if not pids else "suspended" if states == {"T"} else "running"
    return " ".join([word, *map(str, pids)])


def command_in(name: str, command: list[str]) -> list[str]:
    """The command as it is to be run for running it in a node, or in the control plane's network."""
    host.require_linux_and_root()
    nodes_up()
    return entering(name, command)


def _refuse_another_checkout() -> None:
    other = host.owner()
    if other not in (None, CHECKOUT) and other.exists() and host.members():
        raise ClusterError(
            f"the cluster of {other} is on this machine, which has room for one: make -C {other} cluster-down"
        )


def _remove() -> None:
    host.release()
    KUBECONFIG.unlink(missing_ok=True)
    HTTP_PORT.unlink(missing_ok=True)
    # Its mounts went with its processes: nothing below is another file system.
    shutil.rmtree(RUN, ignore_errors=True)


def nodes_up() -> list[Node]:
    """The nodes of the cluster, killed ones too. Raises ClusterError when there is no cluster."""
    if not is_up():
        raise ClusterError("the cluster is not up: make cluster")
    return [Node(number) for number in json.loads(_NODES.read_text("utf-8"))]


def _bring_up(nodes: list[Node], listeners: dict[str, socket.socket], binaries: dict[str, Path], say: Say) -> None:
    shutil.rmtree(RUN, ignore_errors=True)
    shutil.rmtree(LOGS, ignore_errors=True)
    RUN.mkdir(parents=True)
    _NODES.write_text(json.dumps([node.number for node in nodes]), "utf-8")
    HTTP_PORT.write_text(str(listeners["http"].getsockname()[1]), "utf-8")
    _link_programs(binaries)
    control_plane.make_credentials([node.name for node in nodes])
    make_bridge(nodes, binaries["pause"])
    for node in nodes:
        attach(node, nodes, binaries["pause"])
    forward = _start_forward(nodes, listeners, binaries["forward"])
    _write_kubeconfig(listeners["api"])
    api = {**control_plane.start_api(binaries), "forward": forward}
    engines = {f"{node.name}-containerd": start_containerd(node) for node in nodes}
    say(f"network, control plane and {len(nodes)} container engines started")

    pool = ThreadPoolExecutor(len(nodes))
    try:
        images = [archive(binaries[name]) for name in _IN_PODS]
        loading = [pool.submit(_load_when_ready, node, images, engines) for node in nodes]
        wait_until("the API server is ready", _api_ready, api, timeout_s=120, explain=lambda: log_tail("apiserver"))
        say("API server ready")
        controllers = control_plane.start_controllers(binaries)
        kubectl("create", f"--filename={_ADDONS}")
        kubectl("create", "--filename=-", sent=json.dumps(storage.manifests(nodes)))
        for loaded in loading:
            loaded.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # after a failure its commands end with the cluster
    say("images loaded")

    running = {**api, **engines, **controllers}
    for node in nodes:
        running.update(start_kubelet(node, binaries))

    def wait(what: str, ready: Callable[[], bool]) -> None:
        wait_until(what, ready, running, timeout_s=120, explain=_explain)
        say(what)

    wait(f"{len(nodes)} nodes Ready", lambda: _ready_nodes() == len(nodes))
    running.update({f"{node.name}-kube-router": start_policies(node, binaries) for node in nodes})
    wait("DNS available", lambda: _available("deployment/coredns"))
    wait("metrics available", lambda: _available("apiservice/v1beta1.metrics.k8s.io"))


def _listen(port: int) -> socket.socket:
    """A listening socket on the host's loopback; port 0: a free one."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise ClusterError(
            f"port {port} of 127.0.0.1 is not free ({error.strerror}): choose another by --http-port"
        ) from None
    listener.listen(512)
    return listener


def _start_forward(nodes: list[Node], listeners: dict[str, socket.socket], program: Path) -> subprocess.Popen[bytes]:
    """Start what connects the host to the API server and to the gateway's port on the nodes."""
    api, http = listeners["api"].fileno(), listeners["http"].fileno()
    gateways = ",".join(f"{node.address}:{GATEWAY_NODE_PORT}" for node in nodes)
    targets = [f"{api}=127.0.0.1:{control_plane.API_PORT}", f"{http}={gateways}"]
    forward = Program("forward", control_plane.NAMESPACES, [str(program), *targets])
    return start(forward, inherited=(api, http))


def _write_kubeconfig(api: socket.socket) -> None:
    control_plane.write_kubeconfig(KUBECONFIG, f"https://127.0.0.1:{api.getsockname()[1]}", control_plane.admin_token())
    if "SUDO_UID" in os.environ:  # the person who typed sudo uses it
        os.chown(KUBECONFIG, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]))


def _link_programs(binaries: dict[str, Path]) -> None:
    BIN.mkdir(parents=True, exist_ok=True)
    for name in ("kubectl", "helm"):
        (BIN / name).unlink(missing_ok=True)
        (BIN / name).symlink_to(binaries[name])


def _load_when_ready(node: Node, images: list[Path], engines: dict[str, subprocess.Popen[bytes]]) -> None:
    wait_for_containerd(node, engines)
    load_images(node, images)


def wait_for_containerd(node: Node, engines: dict[str, subprocess.Popen[bytes]]) -> None:
    """Return when the node's container engine takes commands. Raises ClusterError when it does not."""
    name = f"{node.name}-containerd"
    wait_until(
        f"{name} answers",
        lambda: containerd_answers(node),
        {name: engines[name]},
        timeout_s=60,
        explain=lambda: log_tail(name),
    )


def _api_ready() -> bool:
    kubectl("get", "--raw=/readyz", "--request-timeout=2s")
    return bool(kubectl("get", "namespace/kube-system", "--request-timeout=2s"))


def _ready_nodes() -> int:
    items = json.loads(kubectl("get", "nodes", "--output=json"))["items"]
    return sum(_condition(item, "Ready") for item in items)


def _available(name: str) -> bool:
    found = json.loads(kubectl("get", name, "--namespace=kube-system", "--output=json"))
    unavailable = found["status"].get("unavailableReplicas", 0)
    return _condition(found, "Available") and not unavailable


def _explain() -> str:
    """What Kubernetes says of nodes and pods, and the last words of containers that do not stay up."""
    pods = json.loads(kubectl("get", "pods", "--namespace=kube-system", "--output=json"))["items"]
    troubled = [pod["metadata"]["name"] for pod in pods if not _condition(pod, "Ready")]
    listed = kubectl("get", "nodes,pods", "--all-namespaces", "--output=wide")
    words = []
    for name in troubled:
        with contextlib.suppress(ClusterError):  # it has not started
            words.append(kubectl("logs", "--namespace=kube-system", "--tail=5", "--prefix", name))
    return "\n".join([listed, *words])


def _condition(item: dict[str, Any], kind: str) -> bool:
    conditions = item.get("status", {}).get("conditions", [])
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)
