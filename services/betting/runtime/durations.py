"""Durations in settings: a plain number in the environment means seconds, as in the runtime's own settings."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator

_NUMBER = re.compile(r"\d+(\.\d+)?")


def _plain_numbers_are_seconds(value: object) -> object:
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


Duration = Annotated[timedelta, BeforeValidator(_plain_numbers_are_seconds)]
