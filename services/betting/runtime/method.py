"""Methods: which class one belongs to, on both sides of a call; and a server's metrics and log line per request."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import grpc

from betting.runtime import context, errors, logs, metrics, principal
from betting.runtime.errors import ServiceError

_LOG = logs.get("request")


@dataclass(frozen=True, slots=True)
class MethodClass:
    """Methods that share a breaker and places at who calls, and places at who serves: no class can starve another.

    objective_s: within how many seconds the platform means to answer. Only a call that was given at least this long
    and got no answer says anything about who was called; nobody waits in a server's queue for more than half of it.
    """

    name: str
    objective_s: float

    @property
    def wait_max_s(self) -> float:
        """The longest that a call of this class waits in a server's queue, in seconds."""
        return self.objective_s / 2


# Below the deadlines that services give each other (0.8 s and more): theirs are evidence.
_USUAL_S: Final = 0.75
READ: Final = MethodClass("read", _USUAL_S)
WRITE: Final = MethodClass("write", _USUAL_S)
# What services ask each other: not to be kept waiting by what people ask.
INTERNAL: Final = MethodClass("internal", _USUAL_S)
_CLASSES: Final = {
    # A password's hash is slow on purpose; refreshing needs none.
    "/betting.v1.UserService/Register": MethodClass("register", 4.0),
    "/betting.v1.UserService/Login": MethodClass("login", 4.0),
    "/betting.v1.UserService/OperatorLogin": MethodClass("operator-login", 4.0),
    "/betting.v1.UserService/Refresh": MethodClass("refresh", _USUAL_S),
    # One chunk after another, for as many bets as the market has on the shard.
    "/betting.internal.v1.OwnerService/SettleMarket": MethodClass("settle", 10.0),
}
_READING_VERBS: Final = ("Get", "List", "BulkGet", "Search")


def class_of(path: str) -> MethodClass:
    """The class of a method by its path, like "/betting.v1.WalletService/GetBalance"."""
    found = _CLASSES.get(path)
    if found is not None:
        return found
    service, _, name = path.rpartition("/")
    if service.startswith("/betting.internal."):
        return INTERNAL
    return READ if name.startswith(_READING_VERBS) else WRITE


_WARNINGS = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
    }
)
_ERRORS = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS})


_INTERNAL = "internal error: repeat the request; if it fails again, report the correlation id {}"


def level_of(code: grpc.StatusCode) -> int:
    """The log level of a request that ended so: the caller's errors are ordinary, ours are not."""
    if code in _ERRORS:
        return logging.ERROR
    return logging.WARNING if code in _WARNINGS else logging.INFO


class Method:
    """What we count and log about one method ("/betting.v1.WalletService/Deposit")."""

    __slots__ = ("_ok", "_series", "_success_level", "_success_logged", "path")

    def __init__(self, path: str, *, quiet: bool) -> None:
        self.path = path
        self._series: dict[grpc.StatusCode, metrics.Series] = {}
        self._ok = latencies().series(path, "OK")
        self._success_level = logging.DEBUG if quiet else logging.INFO
        self._success_logged = _LOG.is_enabled_for(self._success_level)

    def succeeded(self, duration_s: float) -> None:
        """Counts a success, and logs it if anybody reads that level."""
        self._ok.observe(duration_s)
        if self._success_logged:
            self._line(self._success_level, "OK", "", duration_s)

    def failed(self, code: grpc.StatusCode, reason: str, duration_s: float, message: str = "") -> None:
        """Counts and logs a failure."""
        series = self._series.get(code)
        if series is None:
            series = self._series[code] = latencies().series(self.path, code.name)
        series.observe(duration_s)
        self._line(level_of(code), code.name, reason, duration_s, message)

    def unexpected(self, error: Exception) -> ServiceError:
        """Logs an error nobody translated, with its traceback, and gives the answer that hides it."""
        _LOG.error("unexpected error", method=self.path, exc_info=error)
        return errors.internal("INTERNAL", _INTERNAL.format(context.correlation_id.get()))

    def _line(self, level: int, code: str, reason: str, duration_s: float, message: str = "") -> None:
        fields: dict[str, object] = {"method": self.path, "code": code, "duration_ms": round(duration_s * 1000, 3)}
        if reason:
            fields |= {"reason": reason, "message": message}
        caller = principal.current.get()
        if caller is not None:
            fields["role"] = caller.role.name.lower()
            fields["user_id"] = caller.user_id
        _LOG.log(level, "request", **fields)


def latencies() -> metrics.Latencies:
    """Requests answered by this process, by method and code."""
    return metrics.latencies("betting_grpc_server_seconds", "Duration of answered requests", ("method", "code"))
