"""A node: containerd, kubelet, kube-proxy and kube-router in namespaces of their own, on a bridge with the others.

Its programs find their state where their defaults put it (/var/lib/kubelet, /run/containerd …), because the node's
mount namespace has the node's own folders there.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minicluster import control_plane, host
from minicluster.host import ClusterError
from minicluster.images import image_name
from minicluster.programs import RUN, Program, entering, hold_namespaces, holder_pid, run, start

POD_RANGE = "10.201.0.0/16"
NODE_RANGE = "10.200.0.0/24"
_IMAGES = RUN / "images"
"""In memory, and so fast to fill and gone with the cluster: the nodes' container engines' images and containers."""
_IMPORT_ATTEMPTS = 3
"""containerd's garbage collection can take an import's unfinished file away, most likely when it has just started."""
NODE_PROGRAMS = ("containerd", "kubelet", "proxy", "kube-router")
"""In the order in which they start."""


@dataclass(frozen=True)
class Node:
    """The node of a number from 1 on."""

    number: int

    @property
    def name(self) -> str:
        return f"n{self.number}"

    @property
    def zone(self) -> str:
        return f"z{self.number}"

    @property
    def address(self) -> str:
        return f"10.200.0.{10 + self.number}"

    @property
    def pod_range(self) -> str:
        return f"10.201.{self.number}.0/24"

    @property
    def pods_group(self) -> str:
        """The control group of its pods."""
        return f"{self.name}-pods"

    @property
    def folder(self) -> Path:
        return RUN / self.name


def make_bridge(nodes: list[Node], pause: Path) -> None:
    """Make the control plane's namespaces, with the bridge to which nodes are attached, and the routes to their pods.

    Nothing of the host's own network is touched.
    """
    _IMAGES.mkdir()
    setup = f"mount -t tmpfs tmpfs /run\nmount -t tmpfs tmpfs {shlex.quote(str(_IMAGES))}\nip link set lo up"
    hold_namespaces(control_plane.NAMESPACES, pause, setup)
    bridge = [
        "link add nodes type bridge",
        f"address add {control_plane.ADDRESS}/24 dev nodes",
        "link set nodes up",
        *(f"route add {node.pod_range} via {node.address}" for node in nodes),
    ]
    _ip(control_plane.NAMESPACES, bridge)


def attach(node: Node, nodes: list[Node], pause: Path) -> None:
    """Make the node's namespaces, connect them with the bridge, and route to the pods of the other nodes."""
    hold_namespaces(node.name, pause, _setup(node), under=control_plane.NAMESPACES)
    cable = f"link add {node.name} type veth peer name eth0 netns {holder_pid(node.name)}"
    _ip(control_plane.NAMESPACES, [cable, f"link set {node.name} master nodes up"])
    others = [f"route add {other.pod_range} via {other.address}" for other in nodes if other != node]
    own = ["link set lo up", f"address add {node.address}/24 dev eth0", "link set eth0 up"]
    _ip(node.name, [*own, *others, f"route add default via {control_plane.ADDRESS}"])


def cut_off(node: Node) -> None:
    """Take the node's link down: nothing that it sends is heard any more, not even that connections end."""
    _ip(control_plane.NAMESPACES, [f"link set {node.name} down"])


def link_up(node: Node) -> None:
    """Take the node's link up again."""
    _ip(control_plane.NAMESPACES, [f"link set {node.name} up"])


def detach(node: Node) -> None:
    """Remove the link of a node that was killed, where it is still there.

    Its connections, which could not tell their peers of their end, keep its namespace and so the link for minutes.
    """
    with contextlib.suppress(ClusterError):
        _ip(control_plane.NAMESPACES, [f"link delete {node.name}"])


def _setup(node: Node) -> str:
    lines = [
        "mount -t tmpfs tmpfs /run",
        "echo 1 >/proc/sys/net/ipv4/ip_forward",
        "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6",
    ]
    for path, name in host.NODE_FOLDERS.items():
        folder = shlex.quote(str((_IMAGES if name == "containerd" else RUN) / node.name / name))
        lines += [f"mkdir -p {folder}", f"mount --bind {folder} {path}"]
    return "\n".join(lines)


def _ip(namespaces: str, commands: list[str]) -> None:
    run(entering(namespaces, ["ip", "-batch", "-"]), sent="\n".join(commands) + "\n")


def start_containerd(node: Node) -> subprocess.Popen[bytes]:
    """Start the node's container engine; return its process."""
    host.make_cgroup(node.pods_group, cpu_weight=host.PODS_CPU_WEIGHT)
    config = node.folder / "containerd.toml"
    config.write_text(_CONTAINERD.format(pause=image_name("pause"), cni=host.cni_folder()), "utf-8")
    _write_json(node.folder / "cni" / "net.d" / "10-pods.conflist", _cni(node))
    return _start(node, "containerd", ["containerd", "--config", str(config), "--log-level", "warn"])


def load_images(node: Node, archives: list[Path]) -> None:
    """Bring OCI or Docker archives into the node's container engine. Raises ClusterError."""
    for archive in archives:
        command = ["ctr", "--namespace", "k8s.io", "images", "import", "--digests=false", str(archive)]
        for attempt in range(1, _IMPORT_ATTEMPTS + 1):
            try:
                run(entering(node.name, command))
                break
            except ClusterError:
                if attempt == _IMPORT_ATTEMPTS:
                    raise


def containerd_answers(node: Node) -> bool:
    """Does the node's container engine take commands?"""
    command = entering(node.name, ["ctr", "version"])
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def start_kubelet(node: Node, binaries: dict[str, Path]) -> dict[str, subprocess.Popen[bytes]]:
    """Start kubelet and kube-proxy, which make the namespaces a node of the cluster; return the processes by name."""
    kubelet, proxy = node.folder / "kubelet.json", node.folder / "proxy.json"
    _write_json(kubelet, _kubelet(node))
    _write_json(proxy, _proxy(node))
    flags = [f"--kubeconfig={control_plane.credential(node.name)}", f"--hostname-override={node.name}"]
    labels = f"--node-labels=topology.kubernetes.io/zone={node.zone}"
    commands = {
        "kubelet": [str(binaries["kubelet"]), f"--config={kubelet}", *flags, f"--node-ip={node.address}", labels],
        "proxy": [str(binaries["kube-proxy"]), f"--config={proxy}"],
    }
    return {f"{node.name}-{name}": _start(node, name, command) for name, command in commands.items()}


def start_policies(node: Node, binaries: dict[str, Path]) -> subprocess.Popen[bytes]:
    """Start kube-router, which ends where the API server does not know its node yet; return the process.

    It enforces NetworkPolicies, and does nothing else of what it could.
    """
    flags = [
        "--run-firewall=true",
        "--run-router=false",
        "--run-service-proxy=false",
        "--run-loadbalancer=false",
        f"--kubeconfig={control_plane.credential('kube-router')}",
        f"--hostname-override={node.name}",
        f"--service-cluster-ip-range={control_plane.SERVICE_RANGE}",
        "--iptables-sync-period=15s",  # five minutes by default, for a change that it did not hear of
        "--health-port=0",
        "--metrics-port=0",
    ]
    return _start(node, "kube-router", ["env", f"NODE_NAME={node.name}", str(binaries["kube-router"]), *flags])


def _start(node: Node, name: str, command: list[str]) -> subprocess.Popen[bytes]:
    return start(Program(f"{node.name}-{name}", node.name, command))


_CONTAINERD = """\
version = 2
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Without it pods do not start where CAP_SYS_RESOURCE is missing.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni}"
    conf_dir = "/var/lib/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""


def _cni(node: Node) -> dict[str, Any]:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": node.pod_range}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}


def _kubelet(node: Node) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(control_plane.CA)},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{host.NAME}/{node.pods_group}",
        "enforceNodeAllocatable": ["pods"],
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [control_plane.DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "resolvConf": "",  # the host's name servers are not reached from here
        # The disk is the developer's: how full it is makes no node evict pods or drop images.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "200Mi"},
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "logging": {"verbosity": 1},
    }


def _proxy(node: Node) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": POD_RANGE,
        "hostnameOverride": node.name,
        "clientConnection": {"kubeconfig": str(control_plane.credential("proxy"))},
        "conntrack": {"maxPerCore": 0, "min": 0},  # these settings belong to the host
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1), "utf-8")
