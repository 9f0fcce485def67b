"""A process that takes part in an election, acts as often as it may while it leads, and tells each act and event.

    python leader_process.py KUBECONFIG NAMESPACE NAME RECORD

RECORD is a file of lines that several of these write: NAME@LIFE, a time in seconds on the machine's clock since it
started, and "act" or what happened. The time of an act is that of the check that allowed it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from pathlib import Path

from betting.runtime import logs
from betting.runtime.ids import new_boot_id
from betting_operator.kubernetes.client import Requests, configuration
from betting_operator.kubernetes.elector import REQUEST_TIMEOUT_S, Elector, clock_s, reexecute

ACT_EVERY_S = 0.01
LEASE = "betting-operator"
HEARTBEAT_MAX_S = 1.5
# Outlives the program that started it, but not its process.
CHILD = "while kill -0 $PPID; do sleep 0.5; done"
CHILDREN: list[int] = []


class Recorder:
    """Appends lines; each write is one system call, so lines of several processes do not mix."""

    def __init__(self, path: Path, identity: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._identity = identity

    def tell(self, at_s: float, what: str) -> None:
        os.write(self._file, f"{self._identity} {at_s:.6f} {what}\n".encode())


def act_forever(elector: Elector, recorder: Recorder) -> None:
    """In a thread of its own: it acts on after the main loop is stuck, as far as it may."""
    while True:
        at_s = clock_s()
        if elector.is_leading():
            recorder.tell(at_s, "act")
        time.sleep(ACT_EVERY_S)


async def take_part(elector: Elector, recorder: Recorder) -> None:
    """Leads with a child process, as the operator does with the healer. SIGUSR1 makes the main loop hang."""
    await elector.won()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, time.sleep, 3600)
    child = await asyncio.create_subprocess_exec("sh", "-c", CHILD)
    CHILDREN.append(child.pid)
    recorder.tell(clock_s(), f"leads with child {child.pid}")
    await child.wait()


async def run(kubeconfig: Path, namespace: str, name: str, record: Path) -> None:
    """Until SIGTERM; then it stops acting and releases the Lease."""
    identity = f"{name}@{new_boot_id()}"
    recorder = Recorder(record, identity)

    def lost(why: str) -> None:
        recorder.tell(clock_s(), f"lost {why}")
        reexecute(CHILDREN)

    elector = Elector(
        Requests(configuration(kubeconfig), timeout_s=REQUEST_TIMEOUT_S),
        namespace=namespace,
        name=LEASE,
        identity=identity,
        on_lost=lost,
        heartbeat_max_s=HEARTBEAT_MAX_S,
    )
    told_to_stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_stop.set)
    recorder.tell(clock_s(), "starts")
    elector.start()
    threading.Thread(target=act_forever, args=(elector, recorder), daemon=True).start()
    beating = asyncio.ensure_future(elector.keep_beating())
    leading = asyncio.ensure_future(take_part(elector, recorder))
    await told_to_stop.wait()
    beating.cancel()
    leading.cancel()
    for pid in CHILDREN:
        os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(elector.release)
    recorder.tell(clock_s(), "ends")


def main() -> None:
    kubeconfig, namespace, name, record = sys.argv[1:]
    logs.configure(workload="operator", instance=name, boot_id="test")
    asyncio.run(run(Path(kubeconfig), namespace, name, Path(record)))


if __name__ == "__main__":
    main()
