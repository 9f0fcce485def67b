"""A small platform in a process of its own, for tests that stop all of it: its folder, then names of services."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from betting.embedded.folder import DataFolder
from betting.embedded.platform import Options, running
from betting.embedded.topology import SERVICES


async def main(folder: Path, names: list[str]) -> None:
    """Says `ready` once all of it runs, and everything that is noted; ends with the end of its input."""
    services = tuple(service for service in SERVICES if service.name in names)
    options = Options(DataFolder.at(folder), free_ports=True, services=services)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with running(options, lambda _name, _s: None, _say):
        _say("ready")
        await reader.read()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
