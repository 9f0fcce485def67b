"""`betting status` of a platform that runs elsewhere: asked through its health monitor alone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

import in_process
import pytest

from betting.health.main import compose
from betting.health.settings import HealthSettings


def status(*arguments: str, secret: str = in_process.SECRET) -> subprocess.CompletedProcess[str]:
    """`betting status` as a person runs it."""
    command = [sys.executable, "-m", "betting.cli", "status", "--plain", *arguments]
    environment = {**os.environ, "BETTING_INTERNAL_SECRET": secret}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


async def test_a_platform_elsewhere_tells_its_instances_and_shards(database: Any) -> None:
    """No data folder is needed: the address of its health monitor and the secret."""
    in_process.install(database.dsn, 4)
    settings = in_process.settings(
        HealthSettings, instance="health-monitor", postgres_dsn=database.dsn, poll_interval=0.05, probe_timeout=0.5
    )
    async with in_process.running(compose, settings, service="health-monitor") as address:
        async with asyncio.timeout(20):
            while True:
                shown = await asyncio.to_thread(status, "--address", address)
                if "shard 3 free" in shown.stdout:
                    break
                await asyncio.sleep(0.05)
    assert shown.returncode == 0
    assert shown.stdout.splitlines()[0] == f"health     {address}"


@pytest.mark.parametrize("secret", ["", "no hex"])
def test_without_the_secret_it_says_what_is_missing(secret: str) -> None:
    """The variable is named."""
    done = status("--address", "127.0.0.1:9", secret=secret)
    assert done.returncode == 1
    assert done.stderr.startswith("betting: BETTING_INTERNAL_SECRET has to be set")


def test_a_monitor_that_does_not_answer_is_an_error(unused_tcp_port: int) -> None:
    """Nothing is known then, and the exit code says so."""
    done = status("--address", f"127.0.0.1:{unused_tcp_port}")
    assert done.returncode == 1
    assert f"health-monitor at 127.0.0.1:{unused_tcp_port} does not answer" in done.stderr
