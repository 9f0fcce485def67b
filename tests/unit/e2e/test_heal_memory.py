"""Memory that climbs from outside: it is resident then, and has what it had."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import heal_faults_memory
import psutil
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc/PID/mem is Linux's")

MIB = 1024 * 1024
# Reserves memory of which it uses one page; says at the end whether anything else was written to it.
RESERVES = """
import mmap, sys

memory = mmap.mmap(-1, 32 * 1024 * 1024, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory[4096] = 7
print("ready", flush=True)
sys.stdin.readline()
print(memory[4096], len(memory) - memory[:].count(0), flush=True)
"""


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    """A process that has reserved memory, and waits for a line."""
    with subprocess.Popen(
        [sys.executable, "-c", RESERVES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as found:
        assert found.stdout is not None
        assert found.stdout.readline() == "ready\n"
        yield found
        found.kill()


def test_memory_that_was_never_used_becomes_resident_and_keeps_its_zeros(process: subprocess.Popen[str]) -> None:
    """A page that the process has written stays as it is, and the process goes on."""
    running = psutil.Process(process.pid)
    before = running.memory_info().rss
    reached = heal_faults_memory._climb(process.pid, before + 8 * MIB)
    assert before + 8 * MIB <= reached < before + 16 * MIB
    pages = list(heal_faults_memory._untouched(process.pid))
    heal_faults_memory._touch(process.pid, pages)
    assert running.memory_info().rss - reached > 16 * MIB
    heal_faults_memory._touch(process.pid, pages)  # they are there: nothing is written
    told, _ = process.communicate("\n")
    assert told == "7 1\n"
