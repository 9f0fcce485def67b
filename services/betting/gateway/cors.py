"""Cross-origin requests (Fetch standard, "CORS protocol"): which origins may read answers, and what they may see."""

from __future__ import annotations

from typing import Final

Headers = tuple[tuple[str, str], ...]

EXPOSED: Final = "grpc-status, grpc-message, grpc-status-details-bin, x-correlation-id, retry-after"
ALLOWED: Final = (
    "authorization, content-type, connect-protocol-version, connect-timeout-ms, grpc-timeout, x-grpc-web, "
    "x-user-agent, x-correlation-id"
)
METHODS: Final = "GET, POST, OPTIONS"
MAX_AGE_S: Final = "7200"


class Cors:
    """origins: "*", or origins separated by commas. Credentials are never allowed: tokens travel in a header."""

    def __init__(self, origins: str = "*") -> None:
        listed = {origin.strip() for origin in origins.split(",") if origin.strip()}
        self._everybody = "*" in listed
        self._origins = listed

    def headers(self, origin: str | None) -> Headers:
        """What goes on every answer to a request from this origin."""
        if self._everybody:
            return (("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", EXPOSED)) if origin else ()
        if origin is None or origin not in self._origins:
            return (("Vary", "Origin"),)
        return (
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", EXPOSED),
            ("Vary", "Origin"),
        )

    def preflight(self, origin: str | None) -> Headers:
        """What answers an OPTIONS request."""
        allowed = self.headers(origin)
        if not any(name == "Access-Control-Allow-Origin" for name, _ in allowed):
            return allowed
        return (
            *allowed,
            ("Access-Control-Allow-Methods", METHODS),
            ("Access-Control-Allow-Headers", ALLOWED),
            ("Access-Control-Max-Age", MAX_AGE_S),
        )
