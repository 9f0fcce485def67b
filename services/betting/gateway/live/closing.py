"""Why the gateway ends a live connection, and whether a client should come back."""

from __future__ import annotations

from enum import Enum


class Closing(Enum):
    """code; whether to reconnect by itself; what a person can do."""

    TOKEN_EXPIRED = ("TOKEN_EXPIRED", False, "the access token has ended: connect again with a fresh one")
    SESSION_ENDED = ("SESSION_ENDED", False, "the session has ended: log in again")
    SLOW_READER = ("SLOW_READER", True, "messages were not read in time: connect again and resume")
    DRAINING = ("DRAINING", True, "this gateway is stopping: connect again")

    @property
    def code(self) -> str:
        """For programs."""
        return self.value[0]

    @property
    def reconnect(self) -> bool:
        """Whether coming back with what one has helps."""
        return self.value[1]

    @property
    def told(self) -> dict[str, object]:
        """The data of the event `closing`."""
        return {"code": self.code, "reconnect": self.reconnect, "message": self.value[2]}
