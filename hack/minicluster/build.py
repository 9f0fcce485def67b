"""Build the programs of the cluster from their Go modules, once: `build.py [PROGRAM …]` prints where they are.

Each folder of modules/ is a Go module that pins one project by go.mod and go.sum. What was built is kept under
$BETTING_CACHE (default ~/.cache/betting-cluster), named by the hash of these files, so a changed version is built
anew and an unchanged one is not. Needs Go; downloads modules through the Go proxy the machine is set up with.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MODULES = Path(__file__).parent / "modules"
_FETCHES = (1, 21, 0)


@dataclass(frozen=True)
class Program:
    """A program: the module folder that pins it, the package it is built from, the variables that take versions.

    version_variables: with {version}, {major} and {minor} of the module `version_of`; empty: of the one that the folder
    pins. Who changes them changes a file in the folder too: what was built is named by the hash of these.
    """

    module: str
    package: str
    version_variables: tuple[str, ...] = ()
    version_of: str = ""


_KUBERNETES_VERSION = (
    "k8s.io/component-base/version.gitVersion=v{version}",
    "k8s.io/component-base/version.gitMajor={major}",
    "k8s.io/component-base/version.gitMinor={minor}",
    "k8s.io/component-base/version.gitTreeState=clean",
)
# Without them helm takes every cluster that it cannot ask for Kubernetes 1.20, which the chart refuses. client-go 0.36
# is of Kubernetes 1.36.
_HELM_KUBERNETES = (
    "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1",
    "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor={minor}",
    "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1",
    "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor={minor}",
)
PROGRAMS = {
    **{
        name: Program("kubernetes", f"k8s.io/kubernetes/cmd/{name}", _KUBERNETES_VERSION)
        for name in (
            "kube-apiserver",
            "kubectl",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
        )
    },
    "etcd": Program("etcd", "go.etcd.io/etcd/server/v3"),
    "helm": Program("helm", "helm.sh/helm/v3/cmd/helm", _HELM_KUBERNETES, "k8s.io/client-go"),
    "coredns": Program("coredns", "github.com/coredns/coredns"),
    "metrics-server": Program("metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server"),
    "kube-router": Program("kube-router", "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"),
    "kwok": Program("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    "pause": Program("pause", "betting/hack/minicluster/pause"),
    "forward": Program("forward", "betting/hack/minicluster/forward"),
    "probe": Program("probe", "betting/hack/minicluster/probe"),
}


def cache() -> Path:
    """The folder that keeps what was built."""
    return Path(os.environ.get("BETTING_CACHE") or Path.home() / ".cache" / "betting-cluster")


def build(names: list[str]) -> dict[str, Path]:
    """Build the named programs where they are not built yet; return the path of each.

    Raises SystemExit with what is missing when Go is not there or too old, or with the compiler's words when a build
    fails.
    """
    if problem := go_problem(unbuilt(names)):
        raise SystemExit(f"this machine lacks {problem}")
    return {name: _program(name) for name in names}


def unbuilt(names: list[str]) -> list[str]:
    """Which of the named programs are not built yet."""
    return [name for name in names if not _target(name).exists()]


def go_needed(names: Iterable[str]) -> str:
    """The Go version that building these programs needs: the newest that their modules' go.mod require."""
    modules = {PROGRAMS[name].module for name in names}
    required = [
        re.search(r"^go (\S+)$", (MODULES / each / "go.mod").read_text("utf-8"), re.MULTILINE) for each in modules
    ]
    return max((found[1] for found in required if found is not None), key=_release)


def go_problem(names: list[str]) -> str | None:
    """What this machine's Go lacks for building these programs, in a line; None: nothing.

    A Go from 1.21 on fetches the version that a go.mod requires, unless GOTOOLCHAIN forbids it (go.dev/doc/toolchain).
    """
    if not names:
        return None
    needed = go_needed(names)
    wanted = f"Go {needed} or newer, which builds Kubernetes once"
    if shutil.which("go") is None:
        return f"{wanted}: https://go.dev/dl"
    # Outside of any module, where it is itself and no other version.
    asked = subprocess.run(
        ["go", "env", "GOVERSION", "GOTOOLCHAIN"], cwd="/", capture_output=True, text=True, check=False
    )
    version, toolchain = [*asked.stdout.splitlines(), "", ""][:2]
    if not _release(version) or _release(version) >= _release(needed):
        return None
    if _release(version) < _FETCHES:
        return f"{wanted}: {version} is here, which cannot fetch it by itself: https://go.dev/dl"
    if toolchain in ("auto", "path") or toolchain.endswith(("+auto", "+path")):
        return None
    here = f"{version} is here, and GOTOOLCHAIN={toolchain} keeps it from fetching that"
    return f"{wanted}: {here} (GOTOOLCHAIN=auto lets it)"


def _release(text: str) -> tuple[int, ...]:
    """1.26.4 or go1.26.4 as numbers; () for what is no release."""
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(each or 0) for each in found.groups()) if found else ()


def _target(name: str) -> Path:
    """Where the program is when it is built from the files as they are now."""
    module = PROGRAMS[name].module
    files = sorted(path for path in (MODULES / module).iterdir() if path.is_file())
    digest = hashlib.sha256(b"\0".join(path.name.encode() + b"\0" + path.read_bytes() for path in files))
    return cache() / "bin" / f"{module}-{digest.hexdigest()[:16]}" / name


def _program(name: str) -> Path:
    program, target = PROGRAMS[name], _target(name)
    if target.exists():
        return target
    folder = MODULES / program.module
    print(f"building {name} ...", file=sys.stderr, flush=True)
    began = time.monotonic()
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(f".{os.getpid()}")
    flags = ["-s", "-w"]
    if program.version_variables:
        released = version(name)
        major, minor, _ = released.split(".", 2)
        flags += [f"-X {v.format(version=released, major=major, minor=minor)}" for v in program.version_variables]
    command = ["go", "build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", " ".join(flags)]
    done = subprocess.run(
        [*command, "-o", str(unfinished), program.package],
        cwd=folder,
        env={**os.environ, "CGO_ENABLED": "0"},
        stdout=sys.stderr,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"building {name} failed: the compiler's words are above")
    unfinished.rename(target)
    print(f"built {name} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return target


def version(name: str) -> str:
    """The version that its go.mod requires: of `version_of`, or of the one module required directly."""
    program = PROGRAMS[name]
    go_mod = (MODULES / program.module / "go.mod").read_text("utf-8")
    if program.version_of:
        pattern = rf"^(?:require )?\s*{re.escape(program.version_of)} v(\S+)"
    else:
        pattern = r"^(?:require )?\s*\S+ v(\S+)$"  # what is required indirectly ends in a comment that says so
    required = re.search(pattern, go_mod, re.MULTILINE)
    assert required is not None
    return required[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("program", nargs="*", default=list(PROGRAMS), help="default: all")
    for name, path in build(parser.parse_args().program).items():
        print(f"{name} {path}")


if __name__ == "__main__":
    main()
