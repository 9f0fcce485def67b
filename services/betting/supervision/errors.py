"""Errors that keep the platform from running on this machine."""

from __future__ import annotations

import errno
import re

# A full stop after a quoted sentence that has its own end: "did you mean this?."
_DOUBLE_END = re.compile(r"([.?!])\.$")


class PlatformError(Exception):
    """The platform cannot run here as asked. The message is one line: what is wrong, and what to do about it."""

    exit_code = 1  # of the command

    def __init__(self, message: str) -> None:
        super().__init__(_DOUBLE_END.sub(r"\1", message))


class SettingsRefused(PlatformError):
    """A setting is unknown or has a value that cannot be used: nothing runs until it is changed."""

    exit_code = 2


def from_os_error(error: OSError, doing: str) -> PlatformError:
    """The clear line for an operating-system error; `doing` says what was tried ("writing /data/x")."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return PlatformError(f"The disk is full ({doing}): free some space or choose another folder with --data.")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return PlatformError(f"No permission ({doing}): choose a folder you may write with --data.")
    return PlatformError(f"{error.strerror or error} ({doing}): check the folder given with --data.")
