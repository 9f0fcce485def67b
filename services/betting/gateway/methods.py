"""Every method of the public contract, from the generated descriptors: who may call it, which limit it counts for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from google.protobuf import message
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message_factory import GetMessageClass

from betting.v1 import (
    bet_pb2,
    event_pb2,
    health_pb2,
    notification_pb2,
    odds_pb2,
    settlement_pb2,
    user_pb2,
    wallet_pb2,
)


class Access(Enum):
    """Who may call a method."""

    OPEN = "everyone"
    USER = "a signed-in user"
    OPERATOR = "an operator"


class RateClass(Enum):
    """Which rate limit a call counts against."""

    READ = "read"
    MONEY = "money"
    SIGN_IN = "sign-in"


@dataclass(frozen=True, slots=True)
class Method:
    """One method: `path` is its HTTP path, `service` and `name` its two halves."""

    path: str
    service: str
    name: str
    request: type[message.Message]
    reply: type[message.Message]
    streams: bool
    access: Access
    rate_class: RateClass
    # Repeating it changes nothing: it may be retried without asking.
    idempotent: bool

    @property
    def hedged(self) -> bool:
        """Whether a slow call is sent a second time: what everybody reads, never anything about money."""
        return self.service in _OPEN_SERVICES and self.idempotent and not self.streams


_FILES: Final[tuple[FileDescriptor, ...]] = (
    bet_pb2.DESCRIPTOR,
    event_pb2.DESCRIPTOR,
    health_pb2.DESCRIPTOR,
    notification_pb2.DESCRIPTOR,
    odds_pb2.DESCRIPTOR,
    settlement_pb2.DESCRIPTOR,
    user_pb2.DESCRIPTOR,
    wallet_pb2.DESCRIPTOR,
)

_OPEN_SERVICES: Final = frozenset({"betting.v1.EventService", "betting.v1.OddsService"})
_OPERATOR_SERVICES: Final = frozenset({"betting.v1.SettlementService", "betting.v1.HealthMonitorService"})
_SIGN_IN: Final = frozenset(
    f"/betting.v1.UserService/{name}" for name in ("Register", "Login", "OperatorLogin", "Refresh")
)
_MONEY: Final = frozenset(
    {
        "/betting.v1.BetService/PlaceBet",
        "/betting.v1.BetService/PlaceBets",
        "/betting.v1.WalletService/Deposit",
        "/betting.v1.WalletService/Withdraw",
    }
)
# Reads by their verb, and money moves, which carry a request key.
_IDEMPOTENT_VERBS: Final = ("Get", "List", "BulkGet", "Search", "Watch", "Mark", "Delete")


def public_methods() -> dict[str, Method]:
    """All public methods by HTTP path."""
    return methods_of(_FILES)


def methods_of(files: Iterable[FileDescriptor]) -> dict[str, Method]:
    """All methods of the services in these files by HTTP path."""
    found: dict[str, Method] = {}
    for file in files:
        for service in file.services_by_name.values():
            for method in service.methods:
                path = f"/{service.full_name}/{method.name}"
                found[path] = Method(
                    path=path,
                    service=service.full_name,
                    name=method.name,
                    request=GetMessageClass(method.input_type),
                    reply=GetMessageClass(method.output_type),
                    streams=method.server_streaming,
                    access=_access(service.full_name, path),
                    rate_class=_rate_class(path),
                    idempotent=method.name.startswith(_IDEMPOTENT_VERBS) or path in _MONEY,
                )
    return found


def _access(service: str, path: str) -> Access:
    if service in _OPERATOR_SERVICES:
        return Access.OPERATOR
    if service in _OPEN_SERVICES or path in _SIGN_IN:
        return Access.OPEN
    return Access.USER


def _rate_class(path: str) -> RateClass:
    if path in _MONEY:
        return RateClass.MONEY
    return RateClass.SIGN_IN if path in _SIGN_IN else RateClass.READ
