"""The pages that are no calls: what this is, whether it lives, whether it is ready."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from betting.gateway.methods import Method
from betting.gateway.protocols.failures import Code, Failure
from betting.gateway.protocols.wires import ACCEPT_POST, HttpReply, connect_failure

# Names of what is not ready yet; empty: ready.
Missing = Callable[[], list[str]]


class Pages:
    """GET /, /healthz and /readyz."""

    def __init__(self, methods: Mapping[str, Method], missing: Missing) -> None:
        self._front_page = _json(200, _about(methods.values()))
        self._missing = missing
        self.draining = False

    def page(self, path: str) -> HttpReply | None:
        """The page at this path, if there is one."""
        match path:
            case "/":
                return self._front_page
            case "/healthz":
                return _json(200, {"status": "alive"})
            case "/readyz":
                return self._ready()
            case _:
                return None

    def for_turned_away(self, data: bytes) -> HttpReply:
        """What a connection without a place is told. Probes get their answer: this process lives."""
        for path in ("/healthz", "/readyz"):
            if data.startswith(f"GET {path} ".encode()):
                page = self.page(path)
                assert page is not None
                return page
        message = "the gateway has no place for this connection: try again in a second, with fewer connections"
        failure = Failure(Code.UNAVAILABLE, "TOO_MANY_CONNECTIONS", message, headers=(("Retry-After", "1"),))
        return connect_failure(failure)

    def _ready(self) -> HttpReply:
        missing = ["draining"] if self.draining else self._missing()
        if missing:
            return _json(503, {"status": "not ready", "missing": missing})
        return _json(200, {"status": "ready"})


def _about(methods: Iterable[Method]) -> dict[str, Any]:
    services: dict[str, list[str]] = {}
    for method in methods:
        services.setdefault(method.service, []).append(method.name)
    example = (
        "curl -H 'Content-Type: application/json' -d '{\"pageSize\": 5}' http://HOST/betting.v1.EventService/ListEvents"
    )
    return {
        "what": "the gateway of a betting platform that heals itself",
        "call": "POST /<service>/<method> in Connect or gRPC-Web",
        "content_types": ACCEPT_POST.split(", "),
        "example": example,
        "sign_in": "Authorization: Bearer <access token>, from betting.v1.UserService/Login",
        "services": services,
        "health": {"alive": "/healthz", "ready": "/readyz"},
    }


def _json(status: int, value: dict[str, Any]) -> HttpReply:
    return HttpReply(status, "application/json", json.dumps(value, indent=2).encode() + b"\n")
