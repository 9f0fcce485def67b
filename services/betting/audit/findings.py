"""What the checks found so far, batch by batch; merged into one result per check at the end."""

from __future__ import annotations

from betting.audit.catalogue import Check
from betting.audit.report import CheckResult, Problem

MAX_EXAMPLES = 5


class Findings:
    """Adds up rows and problems per check and keeps the first few problems of each."""

    def __init__(self) -> None:
        self._examined: dict[str, int] = {}
        self._problems: dict[str, int] = {}
        self._examples: dict[str, list[Problem]] = {}

    def add(self, check: Check, examined: int, problems: int, examples: tuple[Problem, ...]) -> None:
        """Adds the results of one batch for a check."""
        name = check.name
        self._examined[name] = self._examined.get(name, 0) + examined
        self._problems[name] = self._problems.get(name, 0) + problems
        known = self._examples.setdefault(name, [])
        self._examples[name] = sorted([*known, *examples], key=lambda problem: problem.order)[:MAX_EXAMPLES]

    def results(self, asked: tuple[Check, ...]) -> tuple[CheckResult, ...]:
        """One result per check that was asked, in that order."""
        return tuple(
            CheckResult(
                check.name,
                check.means,
                self._examined.get(check.name, 0),
                self._problems.get(check.name, 0),
                tuple(self._examples.get(check.name, ())),
            )
            for check in asked
        )
