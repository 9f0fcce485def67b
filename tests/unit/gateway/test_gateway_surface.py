"""Who may call what, and what browsers of other origins may see."""

from __future__ import annotations

import pytest
from in_process import settings

from betting.gateway.heads import Cors
from betting.gateway.methods import Access, RateClass, public_methods
from betting.gateway.settings import GatewaySettings

METHODS = public_methods()
OPEN = {"UserService/Register", "UserService/Login", "UserService/OperatorLogin", "UserService/Refresh"}


@pytest.mark.parametrize("path", sorted(METHODS))
def test_every_method_has_the_access_the_contract_says(path: str) -> None:
    """Catalogue, prices and signing in are open; settling and health are for operators; the rest needs a user."""
    service, _, name = path.removeprefix("/betting.v1.").partition("/")
    if service in ("EventService", "OddsService") or f"{service}/{name}" in OPEN:
        expected = Access.OPEN
    elif service in ("SettlementService", "HealthMonitorService"):
        expected = Access.OPERATOR
    else:
        expected = Access.USER
    assert METHODS[path].access is expected


def test_only_public_services_are_reachable() -> None:
    """Nothing of betting.internal can be called through the gateway."""
    assert {path.split("/")[1].rpartition(".")[0] for path in METHODS} == {"betting.v1"}


def test_moves_of_money_count_against_their_own_limit() -> None:
    """And may be repeated: they carry a request key."""
    money = {path.rpartition("/")[2] for path, method in METHODS.items() if method.rate_class is RateClass.MONEY}
    assert money == {"PlaceBet", "PlaceBets", "Deposit", "Withdraw"}
    assert all(method.idempotent for method in METHODS.values() if method.rate_class is RateClass.MONEY)


def test_what_changes_things_is_not_repeated_by_itself() -> None:
    """Registering and settling twice are not the same as once."""
    for name in ("UserService/Register", "UserService/Refresh", "SettlementService/SettleMarket"):
        assert not METHODS[f"/betting.v1.{name}"].idempotent


def test_every_origin_may_call_unless_configured() -> None:
    """The default is * and never allows credentials."""
    headers = dict(Cors("*").preflight("https://a.example"))
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "authorization" in headers["Access-Control-Allow-Headers"]
    assert "grpc-status" in headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in headers


def test_tracers_of_browser_apps_may_send_their_headers() -> None:
    """W3C trace context and Sentry's by default, others by a setting."""
    headers = dict(Cors("*").preflight("https://a.example"))["Access-Control-Allow-Headers"].split(", ")
    assert {"traceparent", "tracestate", "baggage", "sentry-trace", "authorization"} <= set(headers)
    read = settings(GatewaySettings, cors_headers="X-Request-Id, x-b3-traceid")
    cors = Cors("https://a.example", read.cors_headers)
    more = dict(cors.preflight("https://a.example"))["Access-Control-Allow-Headers"].split(", ")
    assert more == [*headers, "x-request-id", "x-b3-traceid"]
    assert cors.preflight("https://b.example") == (("Vary", "Origin"),)


def test_configured_origins_only() -> None:
    """A listed origin is named back, another gets nothing, and caches are told that it depends."""
    cors = Cors("https://a.example, https://b.example")
    assert dict(cors.headers("https://b.example"))["Access-Control-Allow-Origin"] == "https://b.example"
    assert cors.headers("https://c.example") == (("Vary", "Origin"),)
    assert cors.preflight("https://c.example") == (("Vary", "Origin"),)


@pytest.mark.parametrize(
    "wrong",
    [
        {"cors_origins": "a.example"},
        {"cors_headers": "x-ok, not ok"},
        {"cors_headers": "x\r\ny"},
        {"http_address": "8080"},
        {"money_per_user_s": 0},
        {"connections_per_address_max": 0},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, object]) -> None:
    """At start, not at the first request."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        settings(GatewaySettings, **wrong)


def test_durations_may_be_plain_seconds_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator writes 2.5, not an ISO 8601 duration."""
    monkeypatch.setenv("BETTING_RECEIVE_TIMEOUT", "2.5")
    monkeypatch.setenv("BETTING_REQUEST_TIMEOUT_MAX", "30")
    read = settings(GatewaySettings)
    assert (read.receive_timeout.total_seconds(), read.request_timeout_max.total_seconds()) == (2.5, 30)


def test_only_reads_that_everybody_may_make_are_hedged() -> None:
    """Prices and the catalogue; nothing of money, nothing of one user."""
    hedged = {method.service for method in public_methods().values() if method.hedged}
    assert hedged == {"betting.v1.EventService", "betting.v1.OddsService"}
    assert all(method.idempotent for method in public_methods().values() if method.hedged)
