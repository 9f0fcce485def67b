"""The rules of leadership: what one life of the operator does about the Lease. No I/O, and the clock is given.

The holder renews every 2 s. It stops leading 4 s after the start of its last successful renewal, by its own clock,
whatever its requests are doing. Others take the Lease once they have seen it unchanged for 6 s, by their own clocks:
times that another process wrote are never compared. So two never lead at once while their clocks run at rates that
differ by less than 20 %.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from betting_operator.kubernetes.client import ConflictError, Json

# How long others must have seen the Lease unchanged before they take it.
DURATION_S = 6.0
# How long after the start of its last successful renewal the holder stops leading.
RENEW_DEADLINE_S = 4.0
RENEW_EVERY_S = 2.0
# How often one that stands by reads the Lease.
POLL_EVERY_S = 1.0
# The pause after a request that failed.
RETRY_S = 0.5
# A Lease that says it lasts longer is believed, up to this.
DURATION_MAX_S = 60.0
# Clocks may run at rates that differ by this share of each.
CLOCK_RATE_ERROR = 0.15
assert RENEW_DEADLINE_S * (1 + CLOCK_RATE_ERROR) < DURATION_S * (1 - CLOCK_RATE_ERROR)


@dataclass(frozen=True)
class Lease:
    """The Lease as the API server has it. holder "": nobody, it was released. stored: the object itself."""

    holder: str
    version: str
    transitions: int = 0
    duration_s: float = DURATION_S
    stored: Json = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class Seen:
    """What this process saw last (None: there is no Lease), and since when it has not seen it change."""

    lease: Lease | None
    since_s: float


@dataclass(frozen=True)
class Acquire:
    """Write the Lease with this process as its new holder."""


@dataclass(frozen=True)
class Renew:
    """Write the Lease again: this process is its holder."""


@dataclass(frozen=True)
class Wait:
    """Another may lead. for_s: how long it must stay unchanged from now on before it can be taken."""

    for_s: float


Decision = Acquire | Renew | Wait


def decide(seen: Seen, now_s: float, identity: str, *, leading: bool) -> Decision:
    """What to do about the Lease. identity: of this life of this process, of no other."""
    lease = seen.lease
    if lease is None:
        return Renew() if leading else Acquire()
    if lease.holder == identity:
        return Renew()
    if not lease.holder:
        return Acquire()
    left_s = seen.since_s + min(max(DURATION_S, lease.duration_s), DURATION_MAX_S) - now_s
    return Wait(left_s) if left_s > 0 else Acquire()


@dataclass(frozen=True)
class Read:
    """The request: read the Lease. Its answer: the Lease, or None when there is none."""


@dataclass(frozen=True)
class Write:
    """The request: write the Lease, if it still is `over` (None: if there still is none). Its answer: as it is now.

    With ConflictError as the answer it was not written.
    """

    over: Lease | None
    holder: str
    transitions: int


class Candidate:
    """One life of a process that wants to lead. Each round yields the requests to make, and returns the pause after it.

    Who takes a Lease over, released or unchanged for long enough, leads at once: nobody else has written that version
    since. Who creates one leads only after it has held it for DURATION_S: that there was none does not say since when
    (another may have created it, led, and had it deleted by hand, all between two looks). `leads` may be asked in any
    thread.
    """

    def __init__(self, identity: str, clock: Callable[[], float]) -> None:
        self.identity = identity
        self.lost = ""
        self._clock = clock
        self._seen: Seen | None = None
        self._is_current = False
        self._mine_since_s: float | None = None
        self._renewed_s: float | None = None

    @property
    def holder(self) -> str:
        """Who held the Lease when it was last seen; "" for nobody."""
        return self._seen.lease.holder if self._seen is not None and self._seen.lease is not None else ""

    @property
    def has_led(self) -> bool:
        """Whether it ever held the Lease."""
        return self._renewed_s is not None

    def leads(self) -> bool:
        """Whether it leads at this moment."""
        return self.has_led and not self.lost and self._within_deadline()

    def check(self) -> None:
        """Finds out whether it has lost the Lease by now; what is lost stays lost (`lost` says why)."""
        if self.has_led and not self.lost and not self._within_deadline():
            self.lose(f"no renewal succeeded for {RENEW_DEADLINE_S:g} s")

    def lose(self, why: str) -> None:
        """It does not lead any more, and never will."""
        self.lost = self.lost or why

    def round(self) -> Generator[Read | Write, Lease | None, float]:
        """Reads what it must, then decides, then writes. Errors of requests other than conflicts end the round."""
        began_s = self._clock()
        if not self._is_current or not self.has_led:
            self._note((yield Read()))
        assert self._seen is not None
        self.check()
        if self.has_led and self.holder not in {"", self.identity}:
            self.lose(f"{self.holder} holds the Lease")
        if self.lost:
            return RETRY_S
        match decide(self._seen, self._clock(), self.identity, leading=self.has_led):
            case Wait(for_s):
                return min(POLL_EVERY_S, for_s)
            case Acquire() | Renew():
                return (yield from self._write(began_s))

    def release(self) -> Generator[Read | Write, Lease | None, None]:
        """Gives up the Lease, so that another may take it at once. It has stopped leading before the request."""
        led = self.leads()
        self.lose("released")
        if led and not self._is_current:
            self._note((yield Read()))
        lease = self._seen.lease if self._seen is not None else None
        if led and lease is not None and lease.holder == self.identity:
            yield Write(lease, "", lease.transitions)

    def _write(self, round_began_s: float) -> Generator[Read | Write, Lease | None, float]:
        assert self._seen is not None
        over = self._seen.lease
        transitions = 0 if over is None else over.transitions + (over.holder != self.identity)
        self._is_current = False  # until the answer is there
        began_s = self._clock()
        try:
            written = yield Write(over, self.identity, transitions)
        except ConflictError:
            return RETRY_S if self.has_led else POLL_EVERY_S
        self._note(written)
        self.check()  # a renewal that comes after the deadline does not bring leadership back
        taken_over = over is not None and over.holder != self.identity
        if not self.lost and (self.has_led or taken_over or self._held_for(DURATION_S)):
            self._renewed_s = began_s
        return max(0.0, RENEW_EVERY_S - (self._clock() - round_began_s))

    def _note(self, lease: Lease | None) -> None:
        self._is_current = True
        if self._seen is None or self._seen.lease != lease:
            self._seen = Seen(lease, self._clock())
        if self.holder != self.identity:
            self._mine_since_s = None
        elif self._mine_since_s is None:
            self._mine_since_s = self._clock()

    def _held_for(self, duration_s: float) -> bool:
        return self._mine_since_s is not None and self._clock() - self._mine_since_s >= duration_s

    def _within_deadline(self) -> bool:
        return self._renewed_s is not None and self._clock() - self._renewed_s < RENEW_DEADLINE_S
