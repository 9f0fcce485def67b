"""Faults of the memory of a bet-service: out of memory at once, and climbing towards its limit."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import psutil
from heal_actions import Answer
from heal_fault import Fault, Measure
from heal_targets import BET_SERVICE, Injected, main_process, replace, some_pod
from scene import Scene
from tools import Failed, expect, frozen, say

from betting.runtime.service_context import PROCESS_BYTES
from betting_operator.healing.policy import Policy

OUT_OF_MEMORY_S = 30.0
USAGE = {"memory.max": "memory.current", "memory.limit_in_bytes": "memory.usage_in_bytes"}  # cgroup v2, v1
MIB = 1024 * 1024
PAGE = os.sysconf("SC_PAGE_SIZE")
# Of its limit; what is left is for what else counts as its memory.
CLIMBS_TO = 0.85
# Any less is no fault: a process that only starts may have so much, and so much beyond that.
CLIMBS_MIN = PROCESS_BYTES + Policy().memory_unexplained_max_bytes
# Each step stops the process for a few milliseconds: more would make it slow, which is another fault.
STEP_PAGES, STEP_S = MIB // PAGE, 0.05


@contextmanager
def bet_service_out_of_memory(scene: Scene) -> Iterator[Injected]:
    """bet-service: killed by the kernel, out of memory (the limit of its control group is lowered to what it uses)."""
    pod = some_pod(scene.platform, BET_SERVICE)
    pid = main_process(pod)
    limit = memory_limit(pid)
    before = limit.read_text("utf-8")
    until_s = time.monotonic() + OUT_OF_MEMORY_S
    while _lives(pid):
        expect(time.monotonic() < until_s, f"{pod} has not run out of memory")
        with contextlib.suppress(OSError):  # EBUSY: it uses more by now
            limit.write_text(str(int(limit.with_name(USAGE[limit.name]).read_text("utf-8"))), "utf-8")
        time.sleep(0.005)  # the kernel tells nobody that it has chosen its victim: the process ends
    yield Injected(time.monotonic(), pod)
    with contextlib.suppress(OSError):  # it is gone with its container
        limit.write_text(before, "utf-8")
    replace(scene.platform, pod)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def bet_service_climbing(scene: Scene) -> Iterator[Injected]:
    """bet-service: its memory climbs towards its limit, and nothing explains that; handed over and replaced in order.

    What its process has reserved and never used becomes resident page by page, from the host, with the zeros that it
    would find there.
    """
    pod = some_pod(scene.platform, BET_SERVICE)
    pid = main_process(pod)
    limit = int(memory_limit(pid).read_text("utf-8"))
    at_s = time.monotonic()
    try:
        resident = _climb(pid, int(CLIMBS_TO * limit))
    except (psutil.NoSuchProcess, ProcessLookupError):
        raise Failed(f"{pod} has ended while its memory climbed") from None
    say(f"{pod} has {resident // MIB} of {limit // MIB} MiB after {time.monotonic() - at_s:.1f} s")
    expect(resident > CLIMBS_MIN, f"{pod} has {resident // MIB} MiB: it has reserved too little for this fault")
    try:
        yield Injected(time.monotonic(), pod)
    finally:
        replace(scene.platform, pod)


def _climb(pid: int, to: int) -> int:
    """Step by step, as far as it has reserved memory; returns its resident bytes. Raises Failed."""
    process, pages = psutil.Process(pid), _untouched(pid)
    while (resident := process.memory_info().rss) < to and (step := list(islice(pages, STEP_PAGES))):
        _touch(pid, step)
        time.sleep(STEP_S)  # the pace at which it climbs is the fault
    return resident


def _untouched(pid: int) -> Iterator[int]:
    """The pages, by their numbers, of its private memory that are neither present nor swapped out."""
    with Path(f"/proc/{pid}/pagemap").open("rb") as entries:
        for start, end in _private(pid):
            found = array("Q", os.pread(entries.fileno(), (end - start) // PAGE * 8, start // PAGE * 8))
            yield from (start // PAGE + number for number, entry in enumerate(found) if not entry >> 62)


def _touch(pid: int, pages: list[int]) -> None:
    """Makes these pages resident where they still are not. It is stopped meanwhile, so that it writes to none of them
    in between. Raises Failed."""
    with frozen(pid):
        _wait_stopped(pid)
        try:
            with Path(f"/proc/{pid}/pagemap").open("rb") as entries, Path(f"/proc/{pid}/mem").open("r+b", 0) as memory:
                for page in pages:
                    entry = os.pread(entries.fileno(), 8, page * 8)
                    if len(entry) == 8 and not int.from_bytes(entry, sys.byteorder) >> 62:
                        with contextlib.suppress(OSError):  # given back since
                            os.pwrite(memory.fileno(), b"\0", page * PAGE)
        except OSError as error:
            raise Failed(f"the memory of process {pid} could not be written from the host: {error}") from error


def _private(pid: int) -> Iterator[tuple[int, int]]:
    """Its private memory that no file is behind, from and to."""
    for line in Path(f"/proc/{pid}/maps").read_text("utf-8").splitlines():
        addresses, rights, _offset, _device, inode, *name = line.split()
        if rights.endswith("p") and inode == "0" and name in ([], ["[heap]"]):
            start, end = (int(each, 16) for each in addresses.split("-"))
            yield start, end


def _wait_stopped(pid: int) -> None:
    """Until all threads of a process that was sent SIGSTOP stand."""
    while any(_runs(each) for each in _threads(pid)):
        time.sleep(0.001)  # only a parent or a tracer is told that a process has stopped


def _threads(pid: int) -> list[Path]:
    with contextlib.suppress(OSError):  # it has just ended
        return list(Path(f"/proc/{pid}/task").iterdir())
    return []


def _runs(thread: Path) -> bool:
    try:
        return (thread / "stat").read_text("utf-8").rpartition(")")[2].split()[0] != "T"
    except OSError:
        return False  # it has ended


def memory_limit(pid: int) -> Path:
    """The file with the limit of the control group of a process, of version 2 or 1. Raises Failed."""
    for line in Path(f"/proc/{pid}/cgroup").read_text("utf-8").splitlines():
        _number, controllers, group = line.split(":", 2)
        root = Path("/sys/fs/cgroup")
        for folder, name in ((root, "memory.max"), (root / "memory", "memory.limit_in_bytes")):
            file = folder / group.lstrip("/") / name
            if controllers in ("", "memory") and file.exists():
                return file
    raise Failed(f"process {pid} is in no control group with a limit of memory")


FAULTS = (
    Fault("bet-out-of-memory", 2.0, bet_service_out_of_memory),
    Fault(
        "bet-memory-climbing",
        60.0,
        bet_service_climbing,
        Measure.ANSWERED,
        refuses=False,
        once=True,
        alone=False,
        answer=Answer("memory-climbing", ("Drain", "Kill")),
    ),
)
