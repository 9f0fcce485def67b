"""Writes what stands now to a small file, from which the operator puts it into the status of the platform."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from betting.runtime import logs
from betting.runtime.loops import FailureLog
from betting_operator.healer.history import Entry, Lasting, Number, Present
from betting_operator.healing.diagnoses import TABLE, Kind, Severity
from betting_operator.kubernetes import healing_report
from betting_operator.kubernetes.healing_actions import short, time_of

TOUCH_EVERY_S = 2.0

_log = logs.get(__name__)
_URGENCY = {Severity.PAGE: 0, Severity.WARN: 1, Severity.NOTE: 2, None: 3}


class ReportFile:
    """Of one healer. What an earlier one has written is deleted.

    name_of: the name of the HealingAction of an entry.
    """

    def __init__(self, path: Path, name_of: Callable[[Number], str]) -> None:
        self._path = path
        self._name_of = name_of
        self._repairs: dict[Kind, healing_report.Report] = {}
        self._failovers: list[dict[str, Any]] = []
        self._written = ""
        self._failures = FailureLog(_log, "report for the status not written")
        with suppress(OSError):
            path.unlink()

    async def run(self) -> None:
        """Touches the file, once it is there, for as long as the main loop runs: to the operator a sign of life."""
        while True:
            await asyncio.sleep(TOUCH_EVERY_S)
            with suppress(OSError):
                os.utime(self._path)

    def present(self, now: Present) -> None:
        """After every tick: writes it, if it has changed. Without fsync: nothing depends on it."""
        for each in now.over:
            ended = _second(now.offset_us + (each.gone_ms or 0) * 1_000)
            before = self._repairs.get(each.kind)
            self._repairs[each.kind] = healing_report.repair(each.kind, each.took_ms / 1_000, ended, before)
        if now.failover is not None:
            found = now.failover
            self._failovers.insert(
                0,
                {
                    "from": found.before,
                    "to": found.after,
                    "epoch": found.epoch,
                    "ended": _second(now.offset_us + found.ended_ms * 1_000),
                    "seconds": round((found.ended_ms - found.began_ms) / 1_000, 3),
                },
            )
            del self._failovers[healing_report.FAILOVERS_MAX :]
        text = json.dumps(self._report(now), separators=(",", ":"))
        if text == self._written:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = self._path.with_suffix(".new")
            new.write_text(text, "utf-8")
            os.replace(new, self._path)
        except OSError as error:
            self._failures.failed(error)
            return
        self._written = text
        self._failures.worked()

    def _report(self, now: Present) -> healing_report.Report:
        ordered = sorted(now.lasting, key=lambda each: (_URGENCY[TABLE[each.episode.kind].severity], each.since_us))
        found: healing_report.Report = {
            "term": now.term,
            "activeDiagnoses": [_active(each) for each in ordered[: healing_report.ACTIVE_MAX]],
            "lastFailovers": self._failovers,
            "meanTimeToRepair": list(self._repairs.values()),
        }
        if now.last is not None:
            found["lastAction"] = self._last(now.last)
        return found

    def _last(self, entry: Entry) -> dict[str, str]:
        found = {
            "action": entry.action,
            "diagnosis": entry.diagnosis or "",
            "target": entry.target.name,
            "outcome": entry.outcome.value,
            "ended": _second(entry.ended_us),
            "name": self._name_of(entry.number),
        }
        return {name: value for name, value in found.items() if value}


def _active(each: Lasting) -> dict[str, str]:
    episode = each.episode
    entry = TABLE[episode.kind]
    found = {
        "kind": episode.kind.value,
        "target": episode.target,
        "certainty": episode.certainty.value,
        "severity": entry.severity.value if entry.severity is not None else "",
        "since": _second(each.since_us),
        "message": short(f"{entry.means} ({'; '.join(episode.evidence)})", healing_report.MESSAGE_LENGTH_MAX),
    }
    return {name: value for name, value in found.items() if value}


def _second(us: int) -> str:
    return time_of(us - us % 1_000_000).replace(".000000", "")
