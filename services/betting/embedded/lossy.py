"""A path to this machine that loses packets: an address of the loopback network, translated and thinned by iptables.

Only packets to that address are touched. Needs root and iptables with its nat and statistic modules (Linux).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from betting.embedded.ports import HOST

ADDRESS = "127.0.0.77"
LOSS = 0.3
_COMMENT = ("-m", "comment", "--comment", "betting-quiet")
_TRANSLATE = ("nat", "OUTPUT", "-d", ADDRESS, "-p", "tcp", *_COMMENT, "-j", "DNAT", "--to-destination", HOST)
# mangle sees packets before nat has changed where they go.
_LOSE = (
    "mangle", "OUTPUT", "-d", ADDRESS, "-p", "tcp", *_COMMENT,
    "-m", "statistic", "--mode", "random", "--probability", str(LOSS), "-j", "DROP",
)  # fmt: skip


def is_possible() -> bool:
    """Whether packets can be lost here on purpose."""
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("iptables") is None:
        return False
    possible = _add(_TRANSLATE) and _add(_LOSE)
    _remove(_LOSE)
    _remove(_TRANSLATE)
    return possible


@contextmanager
def path() -> Iterator[str]:
    """The address by which this machine is reached, for the length of a block."""
    _remove(_LOSE)  # a run that was killed may have left them
    _remove(_TRANSLATE)
    _add(_TRANSLATE)
    try:
        yield ADDRESS
    finally:
        _remove(_TRANSLATE)


@contextmanager
def losing() -> Iterator[None]:
    """Thirty in a hundred packets to it are lost, for the length of a block."""
    _add(_LOSE)
    try:
        yield
    finally:
        _remove(_LOSE)


def _add(rule: tuple[str, ...]) -> bool:
    return _iptables(rule, "-A")


def _remove(rule: tuple[str, ...]) -> None:
    while _iptables(rule, "-D"):
        pass


def _iptables(rule: tuple[str, ...], how: str) -> bool:
    table, chain, *match = rule
    command = ["iptables", "-w", "-t", table, how, chain, *match]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
