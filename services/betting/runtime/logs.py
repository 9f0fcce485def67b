"""Structured logs: one JSON object per line on stdout, or something to read on a console.

Every line carries workload, instance, boot id and, inside a request, the correlation id. Values under names that sound
like secrets are blanked, whatever put them there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from betting.runtime import context

_SECRET_PARTS = ("secret", "password", "token", "authorization", "cookie", "dsn", "private", "credential")
_HIDDEN = "[hidden]"
STDOUT_FILENO = 1

EventDict = MutableMapping[str, Any]


class _Output:
    """Standard output, line by line and unbuffered; a line that cannot be written is lost and nothing else is.

    Whoever reads our output may die (a broken pipe) or the disk may fill up: neither may fail a request.
    """

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(STDOUT_FILENO, text.encode(errors="backslashreplace"))

    def flush(self) -> None:
        """Nothing waits."""


def configure(
    *, workload: str, instance: str, boot_id: str, level: str = "info", log_format: Literal["json", "console"] = "json"
) -> None:
    """Sets up structlog and routes the standard library's loggers (asyncio, grpc) through it from `warning` up."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared = _shared_processors({"workload": workload, "instance": instance, "boot_id": boot_id})
    renderer = _renderer(log_format)
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer]
        if log_format == "json"
        else [*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _Output())),
        cache_logger_on_first_use=True,
    )
    _route_standard_library(shared, renderer, log_format)


def get(name: str) -> FilteringBoundLogger:
    """A logger whose lines carry `component=name`; cheap, and lazy until its first line."""
    return cast("FilteringBoundLogger", structlog.get_logger(component=name))


def add_correlation_id(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Puts the current request's correlation id into a line that has none."""
    correlation = context.correlation_id.get()
    if correlation:
        event.setdefault("correlation_id", correlation)
    return event


def hide_secrets(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Blanks values whose names sound like secrets."""
    for key in event:
        if sounds_secret(key):
            event[key] = _HIDDEN
    return event


def sounds_secret(name: str) -> bool:
    """Whether a value of this name may be a secret: then it is neither logged nor shown."""
    return any(part in name.lower() for part in _SECRET_PARTS)


def _shared_processors(constant: dict[str, str]) -> list[Processor]:
    def add_process(_logger: object, _method: str, event: EventDict) -> EventDict:
        return {**constant, **event}

    return [
        add_process,
        add_correlation_id,
        hide_secrets,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _renderer(log_format: str) -> Processor:
    if log_format == "console":
        return structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(),
            exception_formatter=structlog.dev.plain_traceback,  # the rich one prints local variables: secrets
        )
    return structlog.processors.JSONRenderer(serializer=_to_json)


def _to_json(event: object, **_options: object) -> str:
    return json.dumps(event, default=_readable, separators=(",", ":"), ensure_ascii=False)


def _readable(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _route_standard_library(shared: list[Processor], renderer: Processor, log_format: str) -> None:
    final: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if log_format == "json":
        final.append(structlog.processors.format_exc_info)
    handler = logging.StreamHandler(_Output())
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[*final, renderer], foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
