"""The machine under the cluster: what it must have, and what of it is taken and given back.

Every process of the cluster is in a control group under `betting-cluster`, and its mounts and network are in namespaces
that end with these processes. So the kernel itself knows what belongs to the cluster, and giving everything back means:
end the processes in these groups, remove the groups, put back the few settings of the kernel. That works wherever an
earlier run was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from minicluster import build

NAME = "betting-cluster"
MACHINE = Path("/run") / NAME
"""What is noted about the machine. It is made first and removed last: while it is there, something may be left."""
_LOCK = Path("/run/lock") / f"{NAME}.lock"
_CGROUPS = Path("/sys/fs/cgroup")
_TIMEOUT_S = 30.0

CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
_CNI_PLUGINS = ("bridge", "host-local", "loopback")
_PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ipset": "ipset",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
    "openssl": "openssl",
}
_NEEDED = (
    ("namespaces of network and mounts", "true"),
    ("process namespaces", "unshare --pid --fork --mount-proc true"),
    (
        "mounts of memory and of overlays",
        "mount -t tmpfs tmpfs /tmp && mkdir /tmp/lower /tmp/upper /tmp/work /tmp/all && mount -t overlay overlay "
        "-o lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work /tmp/all",
    ),
    ("network devices", "ip link add nodes type bridge && ip link add eth0 type veth peer name n1"),
    ("packet filters", "iptables --wait --table nat --list --numeric >/dev/null"),
    ("packets for others", "echo 1 >/proc/sys/net/ipv4/ip_forward"),
)
"""What every node does in its namespaces, as a shell does it there."""

# The folders that a node covers with its own (mounted in the node's namespace only): here they are where the
# programs' defaults put them, and nodes do not see each other's.
NODE_FOLDERS = {
    "/var/lib/kubelet": "kubelet",
    "/var/lib/containerd": "containerd",
    "/var/lib/cni": "cni",
    "/var/log/pods": "pods",
    "/var/log/containers": "containers",
}

# Three nodes need more inotify instances than the kernel's default of 128.
_WANTED_SYSCTLS = {"fs/inotify/max_user_instances": 1024, "fs/inotify/max_user_watches": 524288}
# What the kubelet sets for the whole machine (setupKernelTunables), so it must be put back.
_KUBELET_SYSCTLS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


class ClusterError(Exception):
    """The cluster cannot do what was asked. The message says why and what to do, for the person at the terminal."""


class UnfitMachineError(ClusterError):
    """This machine cannot have the cluster: it lacks something, or forbids it. Nothing was built or changed."""


def find_programs() -> None:
    """Let the administrator's programs and Go be found, also where PATH leaves their folders out, as sudo's does."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    wanted = ("/usr/sbin", "/sbin", "/usr/local/go/bin")
    os.environ["PATH"] = os.pathsep.join([*folders, *(folder for folder in wanted if folder not in folders)])


def require_linux_and_root() -> None:
    """Raise UnfitMachineError unless this runs on Linux and as root."""
    if sys.platform != "linux":
        raise UnfitMachineError("without Docker or Podman and kind this needs Linux: https://kind.sigs.k8s.io")
    if os.geteuid() != 0:
        raise UnfitMachineError(
            "without Docker or Podman and kind this needs root (namespaces, control groups): use sudo"
        )


def missing(to_build: list[str]) -> list[str]:
    """What this machine lacks, a line each, the last one with the command that installs it; empty: nothing.

    to_build: the programs that have to be built, which takes Go.
    """
    programs = [name for name in _PACKAGES if shutil.which(name) is None]
    packages = [_PACKAGES[name] for name in programs]
    lines = [f"{name} (program)" for name in programs]
    if cni_folder() is None:
        lines.append(f"CNI plugins {', '.join(_CNI_PLUGINS)} in {' or '.join(map(str, CNI_FOLDERS))}")
        packages.append("containernetworking-plugins")
    if go_problem := build.go_problem(to_build):
        lines.append(go_problem)
    if "overlay" not in Path("/proc/filesystems").read_text("utf-8").split():
        lines.append("overlay file systems in the kernel: modprobe overlay")
    if not Path("/proc/sys/net/bridge").exists():
        lines.append("NetworkPolicies between pods of one node need a module of the kernel: modprobe br_netfilter")
    if not trees():
        lines.append(f"control groups mounted at {_CGROUPS}")
    if packages:
        lines.append(f"on Debian and Ubuntu: apt-get install --yes {' '.join(sorted(set(packages)))}")
    return lines


def forbidden() -> list[str]:
    """What the cluster does that this machine does not allow, a line each; empty: nothing. Nothing is changed.

    Containers and hardened machines let root do less than root may. Each is tried, in namespaces that end at once.
    """
    own = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-euc"]
    lines = []
    for what, script in _NEEDED:
        done = subprocess.run([*own, script], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines.append(f"{what}: {(done.stderr or done.stdout).strip() or f'exit code {done.returncode}'}")
    for tree in trees():
        group = tree / f"try-{NAME}-{os.getpid()}"
        try:
            group.mkdir()
            group.rmdir()
        except OSError as error:
            lines.append(f"control groups of its own: {error}")
    fixed = [name for name in (*_WANTED_SYSCTLS, *_KUBELET_SYSCTLS) if not os.access(_sysctl(name), os.W_OK)]
    if fixed:
        lines.append(f"the kernel's settings {', '.join(fixed)}: they cannot be written")
    return lines


def cni_folder() -> Path | None:
    """The first folder that has all CNI plugins the cluster uses."""
    return next((f for f in CNI_FOLDERS if all((f / plugin).exists() for plugin in _CNI_PLUGINS)), None)


# --- one cluster on the machine


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Hold the machine's lock for changing the cluster; raise ClusterError when somebody else holds it."""
    _LOCK.parent.mkdir(exist_ok=True)
    with _LOCK.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClusterError(
                "another hack/cluster.py is changing the cluster at this moment: try again later"
            ) from None
        yield


def owner() -> Path | None:
    """The checkout whose cluster is on this machine, or parts of it."""
    with contextlib.suppress(FileNotFoundError):
        return Path((MACHINE / "owner").read_text("utf-8"))
    return None


def claim(checkout: Path) -> None:
    """Note whose cluster this is and what the kernel's settings were, before anything is changed."""
    MACHINE.mkdir()
    (MACHINE / "owner").write_text(str(checkout), "utf-8")
    before = {name: _sysctl(name).read_text("utf-8").strip() for name in (*_WANTED_SYSCTLS, *_KUBELET_SYSCTLS)}
    (MACHINE / "sysctls.json").write_text(json.dumps(before), "utf-8")
    for name, value in _WANTED_SYSCTLS.items():
        if int(before[name]) < value:
            _sysctl(name).write_text(str(value), "utf-8")
    absent = [folder for folder in NODE_FOLDERS if not Path(folder).exists()]
    (MACHINE / "folders.json").write_text(json.dumps(absent), "utf-8")
    for folder in NODE_FOLDERS:
        Path(folder).mkdir(parents=True, exist_ok=True)


def release() -> None:
    """Give the machine back: end every process of the cluster, remove its control groups, put settings back."""
    remove_cgroups()
    for name, value in (_noted("sysctls.json") or {}).items():
        if _sysctl(name).read_text("utf-8").strip() != value:
            _sysctl(name).write_text(value, "utf-8")
    for folder in _noted("folders.json") or []:
        with contextlib.suppress(OSError):  # somebody else uses it by now, or it is gone
            Path(folder).rmdir()
    shutil.rmtree(MACHINE, ignore_errors=True)


def _noted(name: str) -> Any:
    """What claim() noted; None where it was killed before it had written that, and so before it changed anything."""
    try:
        return json.loads((MACHINE / name).read_text("utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def _sysctl(name: str) -> Path:
    return Path("/proc/sys") / name


# --- control groups


def is_cgroup_v2() -> bool:
    """Is there one tree of control groups for all controllers?"""
    return (_CGROUPS / "cgroup.controllers").exists()


def trees() -> list[Path]:
    """The trees of control groups: one (v2), or one for each controller and the unified one (v1, hybrid)."""
    if is_cgroup_v2():
        return [_CGROUPS]
    # Controllers mounted together have links to their one folder.
    return sorted(p for p in _CGROUPS.glob("*") if not p.is_symlink() and (p / "cgroup.procs").exists())


# As on a machine of its own, all pods of a node get twice the CPU that its programs get together: kubepods has 1024
# shares for each core (2 here), and system.slice, with everything else in it, 1024. Here each of the four programs
# (containerd, kubelet, kube-proxy, kube-router) has a group: with the same weight pods would get a fifth.
PODS_CPU_WEIGHT = 4 * 2
_CPU_WEIGHTS = {"cpu.shares": 1024, "cpu.weight": 100}  # v1, v2: what every new group has


def make_cgroup(group: str, *, cpu_weight: int = 1) -> None:
    """Make the control group `betting-cluster/<group>` in every tree. cpu_weight: how many times the usual one."""
    _make_cgroup(group)
    for file, usual in _cpu_weights(group):
        file.write_text(str(usual * cpu_weight), "utf-8")


def cpu_weight(group: str) -> int:
    """How many times the usual one the CPU weight of a control group is."""
    return max(int(file.read_text("utf-8")) // usual for file, usual in _cpu_weights(group))


def _cpu_weights(group: str) -> list[tuple[Path, int]]:
    files = [(tree / NAME / group / name, usual) for tree in trees() for name, usual in _CPU_WEIGHTS.items()]
    return [(file, usual) for file, usual in files if file.exists()]


def _make_cgroup(group: str) -> None:
    for tree in trees():
        if is_cgroup_v2():
            # From the kernel's and the kubelet's documents; not tried on such a machine.
            (tree / NAME / group).mkdir(parents=True, exist_ok=True)
            for controller in (tree / "cgroup.controllers").read_text("utf-8").split():
                for folder in (tree, tree / NAME):
                    with contextlib.suppress(OSError):
                        (folder / "cgroup.subtree_control").write_text(f"+{controller}", "utf-8")
            continue
        for folder in (tree / NAME, tree / NAME / group):
            folder.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group, and then no process may enter
                if (folder / name).exists():
                    (folder / name).write_text((folder.parent / name).read_text("utf-8"), "utf-8")


def entering(group: str, command: list[str]) -> list[str]:
    """The command, run in the control group, which it enters before it does anything else."""
    enter = "".join(f"echo $$ >{tree}/{NAME}/{group}/cgroup.procs && " for tree in trees())
    return ["sh", "-c", f'{enter}exec "$@"', "sh", *command]


def members(*groups: str) -> set[int]:
    """The processes in these control groups and the groups in them; without a name, in all of the cluster."""
    found: set[int] = set()
    for listing in _files("cgroup.procs", _folders(*groups)):
        with contextlib.suppress(OSError):  # the group has just gone
            found.update(int(pid) for pid in listing.read_text("utf-8").split())
    return found


def kill(*groups: str) -> None:
    """Kill the processes in these control groups (none named: the cluster's), and return when they are gone.

    Raises ClusterError when some are still there after 30 s.
    """
    deadline = time.monotonic() + _TIMEOUT_S
    while pids := members(*groups):
        if time.monotonic() > deadline:
            raise ClusterError(f"processes {sorted(pids)} do not end, {_TIMEOUT_S:.0f} s after SIGKILL")
        for state in _files("freezer.state", _folders(*groups)):  # a frozen process does not end
            with contextlib.suppress(OSError):
                state.write_text("THAWED", "utf-8")
        send(signal.SIGKILL, pids)
        time.sleep(0.05)


def send(signal_number: signal.Signals, pids: Iterable[int]) -> None:
    """Send a signal to processes of the cluster, and never to another one that has got such an id meanwhile."""
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            handle = os.pidfd_open(pid)
            try:
                # The handle stands for one process for good. Is the id in use now, it is by that process.
                if f":/{NAME}/" in Path(f"/proc/{pid}/cgroup").read_text("utf-8"):
                    signal.pidfd_send_signal(handle, signal_number)
            finally:
                os.close(handle)


def _folders(*groups: str) -> list[Path]:
    return [tree / NAME / group for tree in trees() for group in groups or [""]]


def _files(name: str, folders: Iterable[Path]) -> list[Path]:
    """The files of this name in these folders and the folders in them.

    Groups come and go meanwhile. `os.walk` passes over a folder that has just gone, `Path.glob` raises an error.
    """
    return [Path(folder) / name for top in folders for folder, _, files in os.walk(top) if name in files]


def remove_cgroups(*groups: str) -> None:
    """Remove these control groups (none named: all of the cluster's), killing what is still in them.

    Raises ClusterError when it is not done in 30 s.
    """
    deadline = time.monotonic() + _TIMEOUT_S
    while left := [folder for folder in _folders(*groups) if folder.exists()]:
        if time.monotonic() > deadline:
            raise ClusterError(f"the control groups {', '.join(map(str, left))} cannot be removed")
        kill(*groups)  # also one that was about to enter its group when its parent was killed
        inner = [path.parent for path in _files("cgroup.procs", left)]
        for folder in sorted(inner, key=lambda path: len(path.parts), reverse=True):
            with contextlib.suppress(OSError):  # its last process is ending
                folder.rmdir()
        time.sleep(0.02)
