"""Placing bets through the cluster's gateway and through the laptop platform, in one sitting: what pods cost."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bettors import Load
from scene import Facts, Scenario, Scene
from tools import Failed, python, say, wait_for

CONNECTIONS = 16
MEASURED_S = 8.0
WARM_UP_S = 3.0
TURNS = 2
SHARDS = 16
UP_S = 120.0
DOWN_S = 30.0
_URL = re.compile(r"http://127\.0\.0\.1:\d+")


def compare(scene: Scene) -> Facts:
    """Bets through the cluster's gateway and through the laptop platform, in turns, while both run"""
    cluster = scene.load
    with (
        tempfile.TemporaryDirectory() as folder,
        _laptop(Path(folder)) as url,
        Load(url, SHARDS, Path(folder) / "acknowledgements.jsonl") as laptop,
    ):
        wait_for("the laptop platform answers", laptop.answers, UP_S)
        for each in (cluster, laptop):
            each.closed_loop(CONNECTIONS, WARM_UP_S)
        took_s: dict[str, list[float]] = {"cluster": [], "laptop": []}
        for _ in range(TURNS):
            for name, load in (("cluster", cluster), ("laptop", laptop)):
                took_s[name] += load.closed_loop(CONNECTIONS, MEASURED_S)
                say(f"{name}: {len(took_s[name])} bets so far")
    rates = {name: len(found) / (TURNS * MEASURED_S) for name, found in took_s.items()}
    facts: Facts = {name: _row(rates[name], sorted(found)) for name, found in took_s.items()}
    return facts | {"connections": CONNECTIONS, "ratio": round(rates["cluster"] / rates["laptop"], 2)}


def _row(rate: float, took_s: list[float]) -> dict[str, float]:
    if not took_s:
        raise Failed("no bet was accepted while the two platforms were compared")
    return {
        "bets_per_s": round(rate, 1),
        "p50_ms": round(1000 * took_s[len(took_s) // 2], 1),
        "p99_ms": round(1000 * took_s[int(0.99 * len(took_s))], 1),
    }


@contextlib.contextmanager
def _laptop(folder: Path) -> Iterator[str]:
    """`betting up` on free ports and a folder of its own, for the length of a block."""
    say("starting the laptop platform beside the cluster")
    command = [python(), "-c", "from betting.cli.main import main; main()", "up", f"--data={folder / 'data'}"]
    printed = folder / "up.log"
    with printed.open("wb") as log:
        process = subprocess.Popen([*command, "--free-ports", "--plain", "--speed=500"], stdout=log, stderr=log)
    try:
        yield _address(process, printed)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(DOWN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[bytes], printed: Path) -> str:
    until_s = time.monotonic() + UP_S
    while time.monotonic() < until_s and process.poll() is None:
        if found := _URL.search(printed.read_text("utf-8", errors="replace")):
            return found[0]
        time.sleep(0.2)
    raise Failed(f"betting up did not say where its gateway is: {printed.read_text('utf-8')[-1000:]}")


SCENARIOS = (Scenario("side-by-side", compare, loaded=False),)
