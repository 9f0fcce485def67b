"""Starting a service with cheap imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

_CODE = """
import gc, sys
sys.argv = ["launch", sys.argv[1]]
from betting.runtime import launch
try:
    launch.main()
except SystemExit as end:
    assert end.code == 2, end.code  # it got as far as its settings: everything is imported
heavy = {"rich", "yoyo", "psycopg", "typer", "aiohttp"} & set(sys.modules)
print(*sorted(heavy), gc.isenabled(), gc.get_freeze_count() > 0)
"""


@pytest.mark.parametrize("module", ["betting.wallet", "betting.bets", "betting.feeds.replay"])
def test_a_service_loads_no_command_line_and_collects_garbage_again(module: str) -> None:
    """Nothing that only terminals, migrations or the gateway need; the collector runs once imports are done."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", _CODE, module], capture_output=True, text=True, check=False, env={}
    )
    assert done.stdout == "True True\n", done.stdout + done.stderr


def test_a_process_told_to_stop_before_it_is_put_together_ends_in_order() -> None:
    """SIGTERM while it still imports: there is nothing to drain, and the exit code is that of a drained process."""
    code = (
        "import os, runpy, signal, sys; from betting.runtime import launch\n"
        "runpy.run_module = lambda *_, **__: (os.kill(os.getpid(), signal.SIGTERM), sys.exit(9))\n"
        "launch.main()"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, "betting.wallet"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_rich_can_be_imported_afterwards() -> None:
    """It is hidden from structlog, not from the process."""
    code = (
        "from betting.runtime import launch; launch._import_structlog_without_rich(); "
        "import sys; assert 'rich' not in sys.modules; import rich.table"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
