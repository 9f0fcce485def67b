"""Other people's clients: connect-web speaks Connect (JSON and binary) and gRPC-Web to a running gateway."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
CLIENTS = ROOT / "tests" / "clients"
NODE = shutil.which("node")
NPM = shutil.which("npm")

pytestmark = pytest.mark.skipif(NODE is None or NPM is None, reason="Node.js is not installed: node and npm are needed")


@pytest.fixture(scope="module")
def client() -> Path:
    """The client, with its packages installed and its code generated."""
    assert NPM is not None
    if not (CLIENTS / "node_modules" / "@connectrpc" / "connect-web").exists():
        run = subprocess.run([NPM, "ci"], cwd=CLIENTS, capture_output=True, text=True, timeout=100, check=False)
        assert run.returncode == 0, run.stderr
    generated = CLIENTS / "gen"
    generated.mkdir(exist_ok=True)
    protos = [str(path.relative_to(ROOT / "protos")) for path in (ROOT / "protos" / "betting" / "v1").glob("*.proto")]
    plugin = CLIENTS / "node_modules" / ".bin" / "protoc-gen-es"
    arguments = [
        f"--plugin=protoc-gen-es={plugin}",
        f"--es_out={generated}",
        "--es_opt=target=js,import_extension=js",
        *protos,
    ]
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'protos'}", *arguments]
    run = subprocess.run(protoc, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    return CLIENTS / "client.mjs"


def test_the_lock_file_names_no_registry() -> None:
    """Whoever installs takes the packages from the registry they use: only versions and hashes are locked."""
    lock = (CLIENTS / "package-lock.json").read_text()
    assert "resolved" not in lock
    assert "://" not in lock
    assert '"integrity"' in lock


async def test_connect_web_in_three_protocols(gateway: Any, client: Path) -> None:
    """Unary calls, streams, errors with details, deadlines and 64-bit stakes survive the round trip in each."""
    assert NODE is not None
    process = await asyncio.create_subprocess_exec(
        NODE, str(client), f"http://{gateway.address}", gateway.world.token(),
        cwd=CLIENTS, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        output, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    results = [json.loads(line) for line in output.splitlines()]
    assert [result["protocol"] for result in results] == ["connect-json", "connect-proto", "grpc-web"]
    for result in results:
        assert result["sports"] == ["Fußball ⚽"]
        assert (result["placed"], result["stake"], result["repeated"]) == ("bet", "9007199254740993", True)
        assert result["refusal"] == 11
        assert result["sequences"] == result["beforeTheBreak"] == [1, 2, 3]
        assert result["broken"] == {
            "code": "Unavailable",
            "message": "watch again",
            "details": ["google.rpc.ErrorInfo"],
        }
        assert result["missing"]["code"] == "NotFound"
        assert result["missing"]["message"] == "there is no event 99"
        assert result["unauthenticated"]["code"] == "Unauthenticated"
        assert result["malformed"]["code"] == "InvalidArgument"
        assert result["malformed"]["message"].startswith("stake_minor is 0")
        assert result["late"]["code"] == "DeadlineExceeded"
