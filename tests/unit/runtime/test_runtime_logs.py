"""Logs: one JSON object per line, the process and the request on each, secrets on none."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from betting.runtime import context, logs


@pytest.fixture
def restored() -> Iterator[None]:
    """Puts back the logging of the test run."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def _configured(log_format: Any = "json", level: str = "info") -> None:
    logs.configure(workload="wallet-service", instance="wallet-1", boot_id="b00", level=level, log_format=log_format)


def _lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


@pytest.mark.usefixtures("restored")
def test_a_line_names_process_component_and_request(capfd: pytest.CaptureFixture[str]) -> None:
    """A line found alone says where it comes from."""
    _configured()
    with context.bound(correlation="corr-1"):
        logs.get("store").info("hello", stake_minor=5, user_id=b"\x01\x02")
    (line,) = _lines(capfd)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "workload": "wallet-service",
        "instance": "wallet-1",
        "boot_id": "b00",
        "component": "store",
        "event": "hello",
        "level": "info",
        "correlation_id": "corr-1",
        "stake_minor": 5,
        "user_id": "0102",
    }


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(
    "name", ["password", "access_token", "postgres_dsn", "Authorization", "internal_secret", "set_cookie"]
)
def test_secrets_are_blanked_by_name(capfd: pytest.CaptureFixture[str], name: str) -> None:
    """Whoever logs a secret by mistake logs nothing."""
    _configured()
    logs.get("x").warning("oops", **{name: "hunter2"})
    assert "hunter2" not in capfd.readouterr().out


@pytest.mark.usefixtures("restored")
def test_levels_below_the_one_configured_are_silent(capfd: pytest.CaptureFixture[str]) -> None:
    """At info, debug lines cost nothing and say nothing."""
    _configured(level="info")
    logs.get("x").debug("quiet")
    logs.get("x").info("loud")
    assert [line["event"] for line in _lines(capfd)] == ["loud"]


@pytest.mark.usefixtures("restored")
def test_the_standard_library_logs_in_the_same_form(capfd: pytest.CaptureFixture[str]) -> None:
    """Libraries' warnings are JSON too, with the traceback in one field."""
    _configured()
    try:
        raise KeyError("k")
    except KeyError:
        logging.getLogger("asyncio").exception("it broke: %s", "badly")
    (line,) = _lines(capfd)
    assert line["event"] == "it broke: badly"
    assert line["workload"] == "wallet-service"
    assert "KeyError" in line["exception"]


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_tracebacks_do_not_show_local_variables(capfd: pytest.CaptureFixture[str], log_format: str) -> None:
    """Locals hold passwords and other people's data."""
    _configured(log_format)
    local = "hunter" + "2"
    try:
        raise ValueError("no")
    except ValueError as error:
        logs.get("x").error("failed", exc_info=error)
    out = capfd.readouterr().out
    assert "ValueError: no" in out
    assert local not in out
