"""`kubectl betting` as a person runs it: by the real kubectl, which finds the plugin in its PATH."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


# With arguments, and the kubeconfig of somebody (the admin's).
Run = Callable[..., Awaitable[Ended]]


def installed(folder: Path) -> Path:
    """A folder with what the wheel installs: the plugin, and the command line that is in the image."""
    folder.mkdir()
    for name, module in (("kubectl-betting", "betting_operator.plugin.main"), ("betting", "betting.cli.main")):
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from {module} import main; main()" "$@"\n')
        program.chmod(0o755)
    return folder


def runner(kubectl: str, programs: Path, admin: Path) -> Run:
    """Runs it with a kubeconfig (the admin's) whose context names the namespace; nothing is typed into it."""

    async def run(*arguments: str, kubeconfig: Path = admin) -> Ended:
        process = await asyncio.create_subprocess_exec(
            *(kubectl, "betting", *arguments),
            env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "KUBECONFIG": str(kubeconfig)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return Ended(process.returncode or 0, out.decode(), err.decode())

    return run
