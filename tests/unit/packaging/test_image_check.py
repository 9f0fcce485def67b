"""`make image-check` leaves nothing behind: what it starts ends with it, and the next run removes what was left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

HACK = Path(__file__).resolve().parents[3] / "hack"
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
# Starts a container whose process 1 does nothing, and prints the ids of `unshare` and of that process.
STARTS = """
import sys, time
from pathlib import Path
import image_check
import psutil

image_check._ENTER = "exec sleep 600"
root = Path(sys.argv[1])
(root / "etc").mkdir()
program = image_check.Container(root, {"Cmd": [], "Env": []}, root / "data")
program.start(["x"])
first = psutil.Process(program._running().pid)
while not first.children():
    time.sleep(0.01)
print(first.pid, first.children()[0].pid, flush=True)
time.sleep(600)
"""
# The first stack is never left, as that of a process that is killed.
ADDS_AGAIN = """
from contextlib import ExitStack
from pathlib import Path
import compose_check

killed = ExitStack()
compose_check._add_namespace(killed, "compose-check")
with ExitStack() as made:
    compose_check._add_namespace(made, "compose-check")
assert not Path("/run/netns/compose-check").exists()
"""


@pytest.fixture
def image_check(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module; hack/ is no package."""
    monkeypatch.syspath_prepend(str(HACK))
    import image_check

    return image_check


def with_hack() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(HACK), os.environ.get("PYTHONPATH", "")])}


@AS_ROOT
def test_a_container_ends_with_the_check_that_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTS, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=with_hack()) as check:
        assert check.stdout is not None
        started = [psutil.Process(int(pid)) for pid in check.stdout.readline().split()]
        check.send_signal(signal.SIGKILL)
    assert len(started) == 2
    _, alive = psutil.wait_procs(started, timeout=60)
    for each in alive:
        each.kill()
    assert not alive


@AS_ROOT
def test_a_network_that_a_killed_check_left_is_made_anew() -> None:
    """In a /run of its own, so that nothing of it stays here."""
    script = 'mount -t tmpfs tmpfs /run && exec "$@"'
    command = ["unshare", "--mount", "--net", "sh", "-euc", script, "sh", sys.executable, "-c", ADDS_AGAIN]
    done = subprocess.run(command, env=with_hack(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_working_containers_and_folders_that_a_killed_check_left_are_removed(
    image_check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody else's."""
    listed = json.dumps([{"containername": name} for name in ("betting-image-check-abc", "betting-working-container")])
    asked = tmp_path / "asked"
    buildah = tmp_path / "buildah"
    buildah.write_text(f"#!/bin/sh\ncase $* in *'containers --json') echo '{listed}';; *) echo $* >>{asked};; esac\n")
    buildah.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("BETTING_CACHE", str(tmp_path / "cache"))
    left = tmp_path / "cache" / "image-check" / "abc"
    left.mkdir(parents=True)
    image_check.remove_leftovers()
    removed = [line.split()[-1] for line in asked.read_text("utf-8").splitlines() if " rm " in line]
    assert removed == ["betting-image-check-abc"]
    assert left.parent.exists()
    assert not left.exists()


def test_two_checks_do_not_remove_what_the_other_uses(
    image_check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_check, "LOCK", tmp_path / "lock" / "image-check.lock")
    with image_check.alone(), pytest.raises(SystemExit, match="another image-check runs"), image_check.alone():
        pass
    with image_check.alone():
        pass
