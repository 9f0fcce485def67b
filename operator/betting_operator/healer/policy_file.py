"""The healer's policy as a file, which the operator replaces whenever its platform's spec.healing changes.

A change is in force with the next tick. Environment variables would start the healer anew, without its evidence.
"""

from __future__ import annotations

from pathlib import Path

from betting.runtime import logs
from betting.runtime.loops import FailureLog
from betting_operator.healing.policy import Policy, PolicyError, decoded

_log = logs.get(__name__)


class PolicyFile:
    """Read anew each time. Raises PolicyError, which names the file, when there is none to begin with."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unread = FailureLog(_log, "policy not read, the one before holds")
        try:
            self._text = path.read_text("utf-8")
            self._policy = decoded(self._text)
        except (OSError, UnicodeDecodeError, PolicyError) as error:
            raise PolicyError(f"{path}: {error}") from None

    def __call__(self) -> Policy:
        """As it is now; what cannot be read changes nothing."""
        try:
            text = self._path.read_text("utf-8")
            if text != self._text:
                self._policy, self._text = decoded(text), text
                _log.info("policy changed")
            self._unread.worked()
        except (OSError, UnicodeDecodeError, PolicyError) as error:
            self._unread.failed(error)
        return self._policy
