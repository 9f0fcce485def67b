"""SIGTERM ends a long command as Ctrl-C does: its processes, then its folder, then itself. Real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

# A command with a folder of its own and a process in it, as the benchmarks and the demo have. Its first argument
# is run before: what it inherits from whoever started it.
COMMAND = """
import asyncio, signal, sys, tempfile
from betting.cli.signals import ending_in_order
exec(sys.argv[1])

async def work(folder):
    child = await asyncio.create_subprocess_exec("sleep", "600", cwd=folder)
    try:
        print(folder, child.pid, flush=True)
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        child.terminate()
        await child.wait()

with ending_in_order(), tempfile.TemporaryDirectory(prefix="betting-test-") as folder:
    asyncio.run(work(folder))
"""


def ended(*numbers: signal.Signals, inherited: str = "") -> int:
    """The exit code after these signals, once nothing is left of what the command had."""
    command = [sys.executable, "-c", COMMAND, inherited]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        folder, child = process.stdout.readline().split()
        assert Path(folder).is_dir()
        try:
            for number in numbers:
                process.send_signal(number)
            code = process.wait(timeout=60)
        finally:
            process.kill()
    assert not Path(folder).exists()
    assert not psutil.pid_exists(int(child))
    return code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_signal_cleans_up_and_is_in_the_exit_code(number: signal.Signals) -> None:
    """128 and its number, as shells have it."""
    assert ended(number) == 128 + number


def test_ctrl_c_is_left_as_it_was() -> None:
    """Python ends by the signal itself. Whoever runs the tests in the background ignores it, as `command &` does."""
    inherited = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    assert ended(signal.SIGINT, inherited=inherited) == -signal.SIGINT


def test_a_job_in_the_background_cleans_up_too() -> None:
    """Shells start `command &` with SIGINT ignored; SIGTERM must not be ignored with it."""
    assert ended(signal.SIGTERM, inherited="signal.signal(signal.SIGINT, signal.SIG_IGN)") == 128 + signal.SIGTERM


def test_what_is_ignored_stays_ignored() -> None:
    """Under nohup the end of the terminal ends nothing."""
    inherited = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    assert ended(signal.SIGHUP, signal.SIGTERM, inherited=inherited) == 128 + signal.SIGTERM
