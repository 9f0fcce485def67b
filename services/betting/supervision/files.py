"""Small files that must be whole or absent, and secrets that only their owner may read."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from betting.supervision.errors import PlatformError


def write_atomic(path: Path, text: str, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replaces a file in one step: a reader sees the old content or the new; after a crash too, if `durable`.

    Raises OSError; then the old content is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
            if durable:
                out.flush()
                os.fsync(out.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_secret(path: Path, secret: str) -> None:
    """Writes a secret, mode 0600 from its first byte on."""
    write_atomic(path, secret + "\n", mode=0o600)


def read_secret(path: Path) -> str:
    """Reads a secret that `write_secret` wrote. Raises PlatformError when it is not there."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise PlatformError(
            f"{path} cannot be read ({error.strerror}): was this folder made by `betting up`?"
        ) from error
