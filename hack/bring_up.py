"""The platform in the cluster of `make cluster`: image, chart, example, with the time that each step takes.

`bring_up.py [--file examples/platform.yaml] [--namespace betting]` may be repeated: the image is tagged by what it is
made of, so a changed checkout upgrades the operator, and the platform rolls.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import image
import yaml
from minicluster.host import ClusterError
from minicluster.programs import http_port

ROOT = Path(__file__).resolve().parents[1]
STATE = ROOT / ".cluster"
CHART = ROOT / "charts" / "betting-platform"
ARCHIVE = STATE / "images" / "betting.tar"
LOOK_S = 1.0
# What the image is made of: .dockerignore has the same list.
SOURCES = (
    *("pyproject.toml", "README.md", "LICENSE", "requirements-build.lock", "requirements-run.lock", "protos"),
    *("hack/gen.py", "hack/hatch_build.py", "infrastructure/docker", "services", "operator"),
)
GENERATED = (ROOT / "services" / "betting" / "v1", ROOT / "services" / "betting" / "internal")


class StepError(Exception):
    """A step failed; the message says which, and what its program said last."""


class Steps:
    """Prints each step with the seconds that it took."""

    def __init__(self) -> None:
        self._began_s = self._step_s = time.monotonic()

    def done(self, what: str) -> None:
        now_s = time.monotonic()
        print(f"{now_s - self._began_s:6.1f} s  {what} ({now_s - self._step_s:.1f} s)", flush=True)
        self._step_s = now_s

    def note(self, what: str) -> None:
        print(f"{time.monotonic() - self._began_s:6.1f} s    {what}", flush=True)


def tag() -> str:
    """The release, and a hash of everything that the image is made of."""
    found = hashlib.sha256()
    for path in _files():
        found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return f"{image.version()}-{found.hexdigest()[:12]}"


def _files() -> Iterator[Path]:
    for name in SOURCES:
        path = ROOT / name
        for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if (
                each.is_file()
                and each.suffix != ".pyc"
                and not any(each.is_relative_to(folder) for folder in GENERATED)
            ):
                yield each


def run(arguments: Sequence[str | Path]) -> str:
    """What the program prints. Raises StepError with its last words."""
    command = [str(each) for each in arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StepError(f"{' '.join(command)}\n{(done.stderr or done.stdout).strip()[-3_000:]}")
    return done.stdout


def kubectl(*arguments: str | Path) -> str:
    """With the cluster's kubeconfig."""
    return run([STATE / "bin" / "kubectl", f"--kubeconfig={STATE / 'kubeconfig'}", *arguments])


def bring_up(file: Path, namespace: str, timeout_s: float) -> None:
    """Raises StepError."""
    if not (STATE / "kubeconfig").exists():
        raise StepError("there is no cluster: make cluster")
    names = [each["metadata"]["name"] for each in yaml.safe_load_all(file.read_text("utf-8")) if each]
    steps = Steps()
    wanted = tag()
    run([sys.executable, "hack/image.py", "--tag", wanted, "--output", ARCHIVE])
    steps.done(f"image {image.NAME}:{wanted}")
    run([sys.executable, "hack/cluster.py", "load", ARCHIVE])
    steps.done("image in every node")
    registry, _, repository = image.NAME.partition("/")
    run(
        [
            *(STATE / "bin" / "helm", f"--kubeconfig={STATE / 'kubeconfig'}", "upgrade", "--install", "betting", CHART),
            *("--namespace", namespace, "--create-namespace", "--wait", f"--timeout={timeout_s:.0f}s"),
            *("--set", f"image.registry={registry},image.repository={repository},image.tag={wanted}"),
        ]
    )
    steps.done("chart installed, operator ready")
    kubectl("--namespace", namespace, "apply", "--filename", file)
    steps.done(f"{file} applied")
    for name in names:
        _wait(namespace, name, wanted, steps, timeout_s)
        steps.done(f"{name} takes bets")


def _wait(namespace: str, name: str, wanted: str, steps: Steps, timeout_s: float) -> None:
    """Until it is Ready and of this image, telling each change of phase."""
    deadline_s = time.monotonic() + timeout_s
    said = ""
    while True:
        found = json.loads(kubectl("--namespace", namespace, "get", "bettingplatform", name, "--output=json"))
        if is_up(found, wanted):
            return
        status = found.get("status", {})
        now = f"{status.get('phase', 'waiting for the operator')}: {status.get('message', '')}"[:160]
        if now != said:
            steps.note(now)
            said = now
        if time.monotonic() > deadline_s:
            raise StepError(
                f"{name} is not ready after {timeout_s:.0f} s: {now}\nkubectl -n {namespace} describe bp {name}"
            )
        time.sleep(LOOK_S)


def is_up(found: dict[str, Any], wanted: str) -> bool:
    """Whether the platform takes bets, and all of it is of the wanted image if it names none of its own."""
    status = found.get("status", {})
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", ()))
    own = found["spec"].get("image", {}).get("repository")
    return ready and (bool(own) or status.get("image", "").endswith(f":{wanted}"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path("examples/platform.yaml"), help="default: %(default)s")
    parser.add_argument("--namespace", default="betting", help="default: %(default)s")
    parser.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS", help="default: %(default)s")
    options = parser.parse_args()
    try:
        bring_up(options.file, options.namespace, options.timeout)
        print(kubectl("--namespace", options.namespace, "get", "bettingplatforms").rstrip())
        port = http_port()
    except (StepError, ClusterError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"http://127.0.0.1:{port} leads to a gateway with node port 30080, as that of examples/platform.yaml")
    print(f"export KUBECONFIG={STATE / 'kubeconfig'} PATH={STATE / 'bin'}:$PATH")
    return 0


if __name__ == "__main__":
    sys.exit(main())
