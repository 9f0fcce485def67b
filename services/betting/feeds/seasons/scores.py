"""The score of a row, and whether the file contradicts itself about it."""

from __future__ import annotations

import re
from typing import NamedTuple

from betting.feeds.seasons.columns import AWAY_GOALS, HALF_AWAY, HALF_HOME, HALF_RESULT, HOME_GOALS, RESULT
from betting.feeds.seasons.rows import ProblemList, Row

MAX_GOALS = 20  # no league match since 1888 had more for one side than 13

# Spreadsheets and data frames write whole numbers as 2.0.
_GOALS = re.compile(r"(\d{1,3})(?:\.0{1,6})?", re.ASCII)


class Score(NamedTuple):
    """Goals at the end; `certain` is False when other cells of the line say something else."""

    home: int
    away: int
    certain: bool


def read_score(row: Row, problems: ProblemList, *, trust_goals: bool) -> Score | None:
    """The row's score, or None when it has none. With `trust_goals` a score is certain whatever other cells say."""
    home, away = _goals(row, HOME_GOALS, problems), _goals(row, AWAY_GOALS, problems)
    if home is None or away is None:
        return None
    outcome = "it plays by its goals" if trust_goals else "the match plays without bets"
    agrees = _result_agrees(row, home, away, outcome, problems)
    possible = _half_time_possible(row, home, away, outcome, problems)
    return Score(home, away, trust_goals or (agrees and possible))


def _goals(row: Row, names: tuple[str, ...], problems: ProblemList) -> int | None:
    column, text = row.first(names)
    match = _GOALS.fullmatch(row.number(column))
    if match is not None and int(match[1]) <= MAX_GOALS:
        return int(match[1])
    what = f"{text[:40]!r} is not a number of goals from 0 to {MAX_GOALS}" if text else "is blank: the score is missing"
    problems.add(row.line, column, f"{what}; the line is left out")
    return None


def _result_agrees(row: Row, home: int, away: int, outcome: str, problems: ProblemList) -> bool:
    column, letter = row.first(RESULT)
    right = _letter(home, away)
    if not letter or letter.upper() == right:
        return True
    problems.add(
        row.line, column, f"{letter[:10]!r} contradicts the score {home}-{away}, which is {right!r}; {outcome}"
    )
    return False


def _half_time_possible(row: Row, home: int, away: int, outcome: str, problems: ProblemList) -> bool:
    """Nobody has fewer goals at the end than at half time. Half-time cells that are no goals mean nothing."""
    halves = []
    for column, final in ((HALF_HOME, home), (HALF_AWAY, away)):
        match = _GOALS.fullmatch(row.number(column))
        if match is None:
            return True
        if int(match[1]) > final:
            message = f"{match[1]} goals at half time contradict {final} at the end; {outcome}"
            problems.add(row.line, column, message)
            return False
        halves.append(int(match[1]))
    letter, right = row[HALF_RESULT], _letter(*halves)
    if letter and letter.upper() != right:
        message = f"{letter[:10]!r} contradicts the half-time score {halves[0]}-{halves[1]}; no bet depends on it"
        problems.add(row.line, HALF_RESULT, message)
    return True


def _letter(home: int, away: int) -> str:
    return "H" if home > away else "A" if away > home else "D"
