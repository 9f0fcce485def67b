"""Errors that keep the platform from running on this machine."""

from __future__ import annotations

import errno


class PlatformError(Exception):
    """The platform cannot run here as asked. The message is one line: what is wrong, and what to do about it."""


def from_os_error(error: OSError, doing: str) -> PlatformError:
    """The clear line for an operating-system error; `doing` says what was tried ("writing /data/x")."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return PlatformError(f"The disk is full ({doing}): free some space or choose another folder with --data.")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return PlatformError(f"No permission ({doing}): choose a folder you may write with --data.")
    return PlatformError(f"{error.strerror or error} ({doing}): check the folder given with --data.")
