"""How a command ends that has processes and a folder of its own."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP do what Ctrl-C does: the block ends with its clean-up, processes and folders included.

    Then the command exits with 128 + the signal's number, as a shell reports it. A signal that is ignored (nohup) stays
    so. For the main thread.
    """
    ended_by: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        ended_by.append(number)
        handler = signal.getsignal(signal.SIGINT)  # asyncio's, while it runs; a shell's background jobs have none
        if callable(handler):
            handler(signal.SIGINT, frame)
        else:
            raise KeyboardInterrupt

    numbers = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    except KeyboardInterrupt:
        if not ended_by:
            raise
        sys.exit(128 + ended_by[0])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
