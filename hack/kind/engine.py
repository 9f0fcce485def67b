"""The cluster by kind, on a machine with Docker or Podman. Written from kind's documents; not tried."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from minicluster import build
from minicluster.host import ClusterError, UnfitMachineError
from minicluster.programs import (
    BIN,
    DEFAULT_HTTP_PORT,
    HTTP_PORT,
    KUBECONFIG,
    STATE,
    Say,
    kubectl,
    refuse_other,
    run,
)

NAME = "betting-cluster"
NODES = 3
_CONFIG = Path(__file__).parent / "cluster.yaml"
_MARK = STATE / "kind"
"""Is there while the cluster of this checkout is kind's."""
_METRICS_SERVER = Path(__file__).parents[1] / "minicluster" / "addons" / "metrics-server.yaml"
_METRICS_SERVER_IMAGE = "registry.k8s.io/metrics-server/metrics-server:v{version}"


def container_engine() -> str | None:
    """Which of Docker and Podman answers here, if one does."""
    for name in ("docker", "podman"):
        if shutil.which(name) and subprocess.run([name, "info"], capture_output=True, check=False).returncode == 0:
            return name
    return None


def is_ours() -> bool:
    """Is the cluster of this checkout kind's, or what is left of it?"""
    return _MARK.exists()


def up(node_count: int | None, http_port: int | None, say: Say) -> None:
    """Bring the cluster up; leave it as it is where it is up. None: port 18080, or that of the cluster that is up.

    Raises ClusterError, also where the cluster that is up differs from what is asked for, and UnfitMachineError where
    this machine cannot have one.
    """
    if node_count not in (None, NODES):
        raise ClusterError(f"--nodes {node_count}: {_CONFIG} has {NODES}; other numbers need --engine minicluster")
    engine = container_engine()
    if engine is None:
        raise UnfitMachineError("neither docker nor podman answers (docker info, podman info): start it, or install it")
    if shutil.which("kind") is None:
        raise UnfitMachineError("kind is not installed (https://kind.sigs.k8s.io): go install sigs.k8s.io/kind@latest")
    os.environ["KIND_EXPERIMENTAL_PROVIDER"] = engine
    exists = NAME in run(["kind", "get", "clusters"]).split()
    if exists and not is_ours():
        raise ClusterError(
            f"another checkout has a cluster in {engine}: end it there, or kind delete cluster --name {NAME}"
        )
    if exists and KUBECONFIG.exists():
        refuse_other(NODES, node_count, http_port)
        say("the cluster is up already")
        return
    _link_programs()
    _MARK.write_text(engine, "utf-8")
    HTTP_PORT.write_text(str(http_port or DEFAULT_HTTP_PORT), "utf-8")
    try:
        config = _CONFIG.read_text("utf-8").replace("18080", str(http_port or DEFAULT_HTTP_PORT), 2)
        run(["kind", "create", "cluster", "--config=-", f"--kubeconfig={KUBECONFIG}", "--wait=180s"], sent=config)
        say(f"{NODES} nodes Ready")
        kubectl("apply", "--filename=-", sent=metrics_server())
        kubectl("wait", "--for=condition=Available", "apiservice/v1beta1.metrics.k8s.io", "--timeout=180s")
        say("metrics available")
    except BaseException:
        say("failed: removing what there is of the cluster")
        down(say)
        raise


def down(say: Say) -> None:
    """Remove the cluster, or what there is of it. Raises ClusterError."""
    os.environ["KIND_EXPERIMENTAL_PROVIDER"] = _MARK.read_text("utf-8")
    run(["kind", "delete", "cluster", f"--name={NAME}", f"--kubeconfig={KUBECONFIG}"])
    KUBECONFIG.unlink(missing_ok=True)
    HTTP_PORT.unlink(missing_ok=True)
    _MARK.unlink()
    say("the cluster is gone")


def load(image: Path, say: Say) -> None:
    """Bring an image archive into every node. Raises ClusterError."""
    os.environ["KIND_EXPERIMENTAL_PROVIDER"] = _MARK.read_text("utf-8")
    run(["kind", "load", "image-archive", str(image), f"--name={NAME}"])
    say(f"{image.name} is in {NODES} nodes")


def status() -> str:
    """What runs of the cluster, for people. Raises ClusterError."""
    return kubectl("get", "nodes", "--label-columns=topology.kubernetes.io/zone", "--request-timeout=5s")


def _link_programs() -> None:
    """Link kubectl and helm: those that are installed, else the ones built for the minicluster."""
    BIN.mkdir(parents=True, exist_ok=True)
    for name in ("kubectl", "helm"):
        installed = shutil.which(name)
        program = Path(installed) if installed else build.build([name])[name]
        (BIN / name).unlink(missing_ok=True)
        (BIN / name).symlink_to(program)


def metrics_server() -> str:
    """The minicluster's metrics-server, from its project's registry."""
    image = _METRICS_SERVER_IMAGE.format(version=build.version("metrics-server"))
    manifest = _METRICS_SERVER.read_text("utf-8").replace("localhost/metrics-server:local", image)
    return manifest.replace("imagePullPolicy: Never", "imagePullPolicy: IfNotPresent")
