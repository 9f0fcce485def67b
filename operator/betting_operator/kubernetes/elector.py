"""Leadership: of the operator's replicas, the one that holds the Lease acts (`candidate.py` has the rules).

A thread makes the requests, another one looks only at clocks: the renewal may hang, and so may the main loop. Losing
the Lease ends the process: nothing that was begun as leader goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from datetime import UTC, datetime
from typing import NoReturn, TypeVar, cast

from betting.runtime import logs, metrics
from betting.runtime.loops import FailureLog
from betting_operator.kubernetes.candidate import (
    DURATION_S,
    POLL_EVERY_S,
    RENEW_DEADLINE_S,
    RENEW_EVERY_S,
    RETRY_S,
    Candidate,
    Lease,
    Read,
    Write,
)
from betting_operator.kubernetes.client import ConflictError, Json, KubernetesError, NotFoundError, Requests
from betting_operator.kubernetes.kinds import Resource

_log = logs.get(__name__)

Result = TypeVar("Result")

LEASES = Resource("coordination.k8s.io/v1", "Lease", "leases")
# One operator leads in a namespace, whatever the names of the charts' releases.
LEASE = "betting-operator"
# For the connection, and again for the answer: a renewal that hangs leaves time for another one.
REQUEST_TIMEOUT_S = 1.0
# How long the main loop may be silent while it leads.
HEARTBEAT_MAX_S = 10.0
BEAT_EVERY_S = 0.5
WATCHDOG_EVERY_S = 0.1
RELEASE_TIMEOUT_S = 4.0
_CHILD_END_TIMEOUT_S = 1.0
# EX_TEMPFAIL: what the process ends with when it cannot even replace itself.
EXIT_CODE = 75

assert RENEW_EVERY_S + REQUEST_TIMEOUT_S + RETRY_S < RENEW_DEADLINE_S


class NotLeadingError(Exception):
    """This process does not lead now: what was about to happen must not."""


def clock_s() -> float:
    """Seconds on a clock that runs on while the process is stopped and, on Linux, while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


class Elector:
    """Takes part in the election until it ends or is released.

    requests: with a timeout of REQUEST_TIMEOUT_S. identity: new for each life of the process (pod name and boot id).
    on_lost: called once, in a thread of the elector, with the reason, when leadership is lost or can never be had; it
    ends the process (`reexecute`). Until it has, `is_leading` is false.
    """

    def __init__(
        self,
        requests: Requests,
        *,
        namespace: str,
        name: str,
        identity: str,
        on_lost: Callable[[str], object],
        heartbeat_max_s: float = HEARTBEAT_MAX_S,
    ) -> None:
        self._requests = requests
        self._collection = LEASES.path(namespace)
        self._name = name
        self._on_lost = on_lost
        self._heartbeat_max_s = heartbeat_max_s
        self._candidate = Candidate(identity, clock_s)
        self._beat_s = clock_s()
        self._won = threading.Event()
        self._stop = threading.Event()
        self._failures = FailureLog(_log, "lease not renewed or read")
        self._renewal = threading.Thread(target=self._renew, name="elector", daemon=True)
        self._watchdog = threading.Thread(target=self._watch, name="elector-watchdog", daemon=True)

    def start(self) -> None:
        """Starts both threads."""
        leading = metrics.gauge("betting_operator_leading", "1 while this replica leads, 0 while it stands by")
        leading.set_function(lambda: float(self.is_leading()))
        self._renewal.start()
        self._watchdog.start()

    def is_leading(self) -> bool:
        """Whether this process leads at this moment: it looks at the clock. Asked right before every effect."""
        return self._candidate.leads()

    def assert_leading(self) -> None:
        """Raises NotLeadingError when this process does not lead at this moment."""
        if not self.is_leading():
            raise NotLeadingError(f"{self._candidate.identity} does not lead: {self._candidate.lost or 'not elected'}")

    @property
    def identity(self) -> str:
        """What this process takes part as: another one in each of its lives."""
        return self._candidate.identity

    @property
    def holder(self) -> str:
        """The identity that held the Lease when it was last seen; "" for nobody."""
        return self._candidate.holder

    async def won(self) -> None:
        """Returns once this process leads."""
        while not self._won.is_set():  # noqa: ASYNC110  (a thread sets it)
            await asyncio.sleep(WATCHDOG_EVERY_S)
        self.beat()

    async def keep_beating(self) -> None:
        """Runs in the main loop as long as it leads: the elector gives the Lease up when this loop is stuck."""
        while True:
            self.beat()
            await asyncio.sleep(BEAT_EVERY_S)

    def beat(self) -> None:
        """The main loop is alive."""
        self._beat_s = clock_s()

    def release(self) -> None:
        """Ends taking part; if it leads, another may lead at once. Blocks, for seconds if the API server is away.

        Everything that acts as leader has ended before: stop it first.
        """
        self._stop.set()
        self._renewal.join(RELEASE_TIMEOUT_S)
        self._candidate.lose("released")
        self._watchdog.join(RELEASE_TIMEOUT_S)

    def _renew(self) -> None:
        try:
            while not self._stop.is_set() and not self._candidate.lost:
                self._stop.wait(self._one_round())
            if self._stop.is_set():
                with contextlib.suppress(KubernetesError):
                    self._drive(self._candidate.release())
                    _log.info("lease released", identity=self._candidate.identity)
        except BaseException as error:
            _log.critical("elector failed", exc_info=error)
            self._candidate.lose(f"the elector failed: {error!r}")

    def _one_round(self) -> float:
        led, holder = self._candidate.leads(), self._candidate.holder
        try:
            pause_s = self._drive(self._candidate.round())
        except KubernetesError as error:
            self._failures.failed(error, lease=self._name, status=error.status)
            return RETRY_S if self._candidate.has_led else POLL_EVERY_S
        self._failures.worked()
        if not led and self._candidate.leads():
            self._beat_s = clock_s()
            _log.info("leading", identity=self._candidate.identity, lease=self._name)
            self._won.set()
        elif self._candidate.holder not in {holder, self._candidate.identity}:
            _log.info("standing by", identity=self._candidate.identity, lease=self._name, holder=self._candidate.holder)
        return pause_s

    def _watch(self) -> None:
        while not (self._stop.is_set() and not self._renewal.is_alive()):
            time.sleep(WATCHDOG_EVERY_S)
            self._candidate.check()
            silent_s = clock_s() - self._beat_s
            if self._won.is_set() and silent_s > self._heartbeat_max_s:
                self._candidate.lose(f"the main loop was stuck for {silent_s:.1f} s")
            if self._candidate.lost and not self._stop.is_set():
                _log.critical("leadership lost", identity=self._candidate.identity, why=self._candidate.lost)
                self._on_lost(self._candidate.lost)
                return

    def _drive(self, requests: Generator[Read | Write, Lease | None, Result]) -> Result:
        """Makes the requests that a round asks for, and returns what the round returns."""
        try:
            request = next(requests)
            while True:
                try:
                    answer = self._answer(request)
                except ConflictError as error:
                    request = requests.throw(error)
                else:
                    request = requests.send(answer)
        except StopIteration as end:
            return cast("Result", end.value)

    def _answer(self, request: Read | Write) -> Lease | None:
        path = f"{self._collection}/{self._name}"
        if isinstance(request, Read):
            try:
                return _lease(self._requests.request("GET", path))
            except NotFoundError:
                return None
        if request.over is None:
            return _lease(self._requests.request("POST", self._collection, _manifest(self._name, request)))
        try:
            return _lease(self._requests.request("PUT", path, _manifest(self._name, request)))
        except NotFoundError as error:
            raise ConflictError(error.status, error.message) from None


def reexecute(child_pids: Iterable[int] = ()) -> NoReturn:
    """Kills these child processes (SIGKILL), then replaces this process by a new one of the same command line.

    Works in any thread; every other thread ends. The process id stays, so a container goes on without a restart, which
    Kubernetes would delay more and more.
    """
    for pid in child_pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        _reap(pid)
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  (becoming the program is the purpose)
    finally:
        os._exit(EXIT_CODE)


def _reap(pid: int) -> None:
    """Waits until a killed child is gone; it would stay a zombie of the new program."""
    deadline_s = clock_s() + _CHILD_END_TIMEOUT_S
    with contextlib.suppress(ChildProcessError):  # somebody else waited for it
        while os.waitpid(pid, os.WNOHANG) == (0, 0) and clock_s() < deadline_s:
            time.sleep(WATCHDOG_EVERY_S / 10)


def _lease(stored: Json) -> Lease:
    spec = stored.get("spec") or {}
    return Lease(
        holder=spec.get("holderIdentity") or "",
        version=stored["metadata"]["resourceVersion"],
        transitions=spec.get("leaseTransitions") or 0,
        duration_s=spec.get("leaseDurationSeconds") or DURATION_S,
        stored=stored,
    )


def _manifest(name: str, write: Write) -> Json:
    """The object to store. Its times are for people to read. A resourceVersion in it makes the write conditional."""
    stored: Json = write.over.stored if write.over is not None else {}
    spec = dict(stored.get("spec") or {})
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if spec.get("holderIdentity") != write.holder:
        spec["acquireTime"] = now
    spec |= {
        "holderIdentity": write.holder,
        "leaseDurationSeconds": int(DURATION_S),
        "renewTime": now,
        "leaseTransitions": write.transitions,
    }
    return {
        "apiVersion": LEASES.api_version,
        "kind": LEASES.kind,
        "metadata": stored.get("metadata") or {"name": name},
        "spec": spec,
    }
