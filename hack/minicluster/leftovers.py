"""What a machine has that a cluster could leave behind, for comparing before and after."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from minicluster import build, host
from minicluster.programs import STATE

_WATCHED_FOLDERS = ("/run", "/run/netns", "/var/lib", "/var/log", "/etc")
_MOUNT_FOLDERS = (str(STATE), "/run/", "/var/lib/", "/var/log/", "/sys/")
_WATCHED_SYSCTLS = ("vm", "net/core", "net/ipv4", "net/bridge", "net/netfilter", "fs/inotify", "kernel/keys")
_CHANGING_SYSCTLS = ("net/netfilter/nf_conntrack_count",)
_KERNEL_SYSCTLS = ("kernel/panic", "kernel/panic_on_oops")
_NETWORK_COMMANDS = (
    ["iptables-save"],
    ["ip6tables-save"],
    ["ipset", "list", "-name"],
    ["ip", "-oneline", "link"],
    ["ip", "-oneline", "address"],
    ["ip", "route", "show", "table", "all"],
    ["ip", "rule"],
)
_PROGRAMS = {*build.PROGRAMS, "containerd", "containerd-shim-runc-v2", "runc", "ctr"}


def snapshot() -> set[str]:
    """A line for each thing; what is in the one of after and not in the one of before was left behind.

    Of processes and mounts only those count that could be a cluster's: other people's come and go.
    """
    return {
        *_processes(),
        *_mounts(),
        *_cgroups(),
        *_network(),
        *_sysctls(),
        *(f"file {path}" for folder in map(Path, _WATCHED_FOLDERS) if folder.exists() for path in folder.iterdir()),
    }


def _processes() -> set[str]:
    """Processes that run a program of a cluster, or live in another network than this one."""
    own_network = Path("/proc/self/ns/net").readlink()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            network = (folder / "ns/net").readlink()
            program = (folder / "exe").readlink().name.split(" ")[0]
            if program in _PROGRAMS or network != own_network:
                found.add(f"process {folder.name} {program} in {network}")
    return found


def _mounts() -> set[str]:
    lines = Path("/proc/self/mounts").read_text("utf-8").splitlines()
    return {f"mount {line}" for line in lines if line.split()[1].startswith(_MOUNT_FOLDERS)}


def _cgroups() -> set[str]:
    names = (host.NAME, "kubepods", "k8s.io")
    # Others' groups come and go meanwhile: `os.walk` passes over what has just gone.
    folders = (Path(top) / name for tree in host.trees() for top, inner, _ in os.walk(tree) for name in inner)
    return {f"control group {folder}" for folder in folders if folder.name.startswith(names)}


def _network() -> set[str]:
    found: set[str] = set()
    for command in _NETWORK_COMMANDS:
        printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        # Comments have the time, and packet counters change.
        lines = (line for line in printed.splitlines() if not line.startswith("#"))
        found.update(f"{' '.join(command)}: {line.partition(' [')[0]}" for line in lines)
    return found


def _sysctls() -> set[str]:
    root = Path("/proc/sys")
    walked = (each for folder in _WATCHED_SYSCTLS for each in os.walk(root / folder))  # interfaces come and go
    files = [Path(folder) / name for folder, _, names in walked for name in names]
    found = set()
    for path in (*files, *(root / name for name in _KERNEL_SYSCTLS)):
        with contextlib.suppress(OSError):  # some can only be written
            if str(path.relative_to(root)) not in _CHANGING_SYSCTLS:
                found.add(f"sysctl {path.relative_to(root)} = {path.read_text('utf-8').strip()}")
    return found
