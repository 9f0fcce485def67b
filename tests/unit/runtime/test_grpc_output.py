"""What gRPC's core prints by itself."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# A client with an open channel whose server goes away at once: the core has something to say about that.
CODE = """
import betting.embedded.readiness  # imports grpc before anything of betting.runtime
import betting.supervision.control
import concurrent.futures, grpc, threading
server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
channel = grpc.insecure_channel(f"127.0.0.1:{port}")
grpc.channel_ready_future(channel).result(timeout=20)
first, gone = [], threading.Event()
channel.subscribe(lambda state: gone.set() if first else first.append(state))
server.stop(None).wait()
assert gone.wait(timeout=20)
channel.close()
"""


@pytest.mark.parametrize(("chosen", "silent"), [(None, True), ("INFO", False)])
def test_a_server_that_goes_away_prints_nothing(chosen: str | None, silent: bool) -> None:
    """Whatever is imported first, unless the user wants to read it."""
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    if chosen is not None:
        environment["GRPC_VERBOSITY"] = chosen
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (done.stderr == "") == silent, done.stderr
