"""When to leave the connections of a channel because there is no answer on them. Pure: the time is passed in.

A process that hangs keeps its connections: its kernel acknowledges what is sent. gRPC notices only after its keepalive
(13 s), and looks for other instances only when a connection ends. A new channel asks DNS again, and calls only who
completes a handshake, which a process that hangs does not.
"""

from __future__ import annotations

from typing import Final

# One call may be slow by itself.
CALLS_MIN: Final = 3
# Below this share of the calls it is no instance that hangs, unless there are more than fifty of them.
SHARE_MIN: Final = 1 / 50
# A call in flight for longer than so many times its objective counts as unanswered.
OVERDUE: Final = 2.0
WINDOW_S: Final = 10.0
# Where a new channel does not help, because the service is slow, the next one comes this much later at the earliest.
REPLACED_EVERY_S: Final = 5.0
_LOOKED_AT_EVERY_S: Final = 0.1


class Silence:
    """Of one channel. Times are seconds on any clock that does not run backwards; opened_at_s: when it was opened."""

    def __init__(self, opened_at_s: float, *, replaces: bool = False) -> None:
        """replaces: whether it was opened in place of one that was left."""
        self._not_before_s = opened_at_s + REPLACED_EVERY_S if replaces else opened_at_s
        self._window_since_s = opened_at_s
        self._in_flight: dict[int, float] = {}  # from when on each is overdue
        self._number = 0
        self._ended = 0
        self._unanswered = 0
        self._stream_was_silent = False

    def began(self, now_s: float, objective_s: float) -> int:
        """Counts a call that begins. Returns its number, for `ended`. objective_s: of the class of its method."""
        self._number += 1
        self._in_flight[self._number] = now_s + OVERDUE * objective_s
        return self._number

    def ended(self, number: int, now_s: float, *, unanswered: bool) -> None:
        """Counts the end of a call. unanswered: it was given its objective at least, and nothing came back."""
        del self._in_flight[number]
        self._forget(now_s)
        self._ended += 1
        self._unanswered += unanswered

    def stream_was_silent(self) -> None:
        """Notes a stream on which no message came when one was due: reason enough by itself."""
        self._stream_was_silent = True

    def is_too_long(self, now_s: float) -> bool:
        """Whether the channel should be left now. It is worked out ten times a second at most."""
        if now_s < self._not_before_s:
            return False
        self._not_before_s = now_s + _LOOKED_AT_EVERY_S
        if self._stream_was_silent:
            return True
        self._forget(now_s)
        overdue = sum(overdue_s <= now_s for overdue_s in self._in_flight.values())
        unanswered = self._unanswered + overdue
        return unanswered >= CALLS_MIN and unanswered >= SHARE_MIN * (self._ended + overdue)

    def _forget(self, now_s: float) -> None:
        """Begins a new window when the last one is over."""
        if now_s - self._window_since_s >= WINDOW_S:
            self._window_since_s, self._ended, self._unanswered = now_s, 0, 0
