"""`python -m betting.runtime.launch betting.wallet`: what `python -m betting.wallet` does, ready a third sooner.

Most of a service's start is importing. Here the collector does not look for garbage meanwhile (there is none), and
structlog does not find rich, which it would load to paint the tracebacks of a console that a service does not have.
"""

from __future__ import annotations

import gc
import os
import runpy
import signal
import sys

# For a module that can wait: it imports everything, then reads its whole environment from stdin, one line of JSON.
ENVIRONMENT_FOLLOWS = "--environment-follows"


def main() -> None:
    """Becomes the module named by the first argument; the others are its own."""
    # Told to stop before there is anything to drain: that is no failure. run_service replaces it.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    gc.disable()  # run_service turns it on again
    _import_structlog_without_rich()
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _import_structlog_without_rich() -> None:
    sys.modules["rich"] = None  # type: ignore[assignment]  # importing it fails, until the entry goes
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]


if __name__ == "__main__":
    main()
