"""Asks the source what is due, one question at a time, and writes the answers into the book."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from structlog.typing import FilteringBoundLogger

from betting.feeds.the_odds_api import parsing, polling
from betting.feeds.the_odds_api.book import Book
from betting.feeds.the_odds_api.client import Client
from betting.feeds.the_odds_api.decoding import SkipError
from betting.feeds.the_odds_api.errors import (
    InvalidQueryError,
    KeyRejectedError,
    QuotaExhaustedError,
    RateLimitedError,
    SourceError,
    UnreachableError,
)
from betting.feeds.the_odds_api.markets import Rules
from betting.feeds.the_odds_api.model import Skip
from betting.feeds.the_odds_api.polling import Pace, PollHistory, PollingMode, Request, RequestKind
from betting.runtime import retry
from betting.runtime.clock import US_PER_S, Clock

BACKOFF_BASE_S = 1.0
BACKOFF_CAP_S = 60.0
# The pulse is asked at least this often: an outage's end must be noticed.
PULSE_BACKOFF_CAP_S = 10.0
BACKOFF_MIN_S = 0.5
TOO_FAST_MIN_S = 2.0
TOO_FAST_CAP_S = 60.0
CREDITS_CHECK_S = 600.0
ASIDE_S = 3600.0
FAILURES_COUNTED = 8
LINES_PER_ANSWER_MAX = 20


class Poller:
    """Keeps the book up to date with the source. Raises nothing for errors of the source."""

    def __init__(
        self, client: Client, book: Book, pace: Pace, rules: Rules, clock: Clock, log: FilteringBoundLogger
    ) -> None:
        self._client = client
        self._book = book
        self._pace = pace
        self._rules = rules
        self._clock = clock
        self._log = log
        self._asked_at_us = 0
        self._pulsed_at_us = 0
        self._resume_at_us = 0
        # Failures in a row, by question.
        self._failures: dict[tuple[RequestKind, str], int] = {}
        self._mode = PollingMode.AMPLE
        self._reported: dict[Request, frozenset[Skip]] = {}
        # Why nothing is asked any more; only a restart with another key helps.
        self.stopped = ""

    def pause_s(self) -> float:
        """How long until the next question is due; for ever once the key was refused."""
        if self.stopped:
            return math.inf
        now_us = self._clock.now_us()
        due_us = max(self._next(now_us)[0], self._resume_at_us)
        return max(0.0, (due_us - now_us) / US_PER_S)

    async def ask(self) -> bool:
        """Sends the request that is due, if any. Returns whether the source answered it."""
        now_us = self._clock.now_us()
        self._mind_the_clock(now_us)
        due_us, request = self._next(now_us)
        if self.stopped or max(due_us, self._resume_at_us) > now_us:
            return False
        self._asked_at_us = now_us
        if request.ask is RequestKind.PULSE:
            self._pulsed_at_us = now_us
        try:
            self._take(request, await self._client.ask(request))
        except SourceError as error:
            self._failed(request, error)
            return False
        except SkipError as error:
            self._failed(request, UnreachableError("NO_SENSE", f"{error}: asking again"))
            return False
        finally:
            self._say_mode()
        self._succeeded(request)
        return True

    def _next(self, now_us: int) -> tuple[int, Request]:
        past = PollHistory(
            asked_at_us=self._asked_at_us,
            pulsed_at_us=max(self._pulsed_at_us, self._book.answered_at_us),
            fresh_since_us=self._book.fresh_since_us,
        )
        return polling.next_request(self._pace, self._book.views(now_us), self._client.quota, past, now_us)

    def _mind_the_clock(self, now_us: int) -> None:
        """A clock that was set back must not make the feed wait for what it thinks is the future."""
        if now_us < self._asked_at_us:
            self._asked_at_us = self._pulsed_at_us = self._resume_at_us = now_us
            self._book.set_back(now_us)

    def _take(self, request: Request, document: object) -> None:
        """Raises SkipError when the document is not even a list: then the source has not answered."""
        now_us = self._clock.now_us()
        if request.ask is RequestKind.PULSE:
            in_season = parsing.sports(document)
            self._answered(now_us)
            unknown = sorted(self._book.sports.keys() - in_season)
            self._say(request, [Skip(sport, "it is not in season, or unknown to the source") for sport in unknown])
        elif request.ask is RequestKind.ODDS:
            events, skips = parsing.events(document, self._rules, now_us)
            self._answered(now_us)
            self._say(request, [*skips, *self._book.take_odds(request.sport, events, now_us)])
        else:
            scores, skips = parsing.scores(document)
            self._answered(now_us)
            more = self._book.take_scores(request.sport, scores, now_us)
            self._say(request._replace(days_from=0), [*skips, *more])

    def _answered(self, now_us: int) -> None:
        if self._book.answered(now_us):
            self._failures.clear()
            self._log.info("source available")

    def _failed(self, request: Request, error: SourceError) -> None:
        question = (request.ask, request.sport)
        failures = self._failures[question] = min(self._failures.get(question, 0) + 1, FAILURES_COUNTED)
        fields = {"code": error.code, "message": error.message, "question": request.ask.value, "sport": request.sport}
        if isinstance(error, KeyRejectedError):
            self.stopped = error.message
            self._log.error("source rejected the key", **fields)
            return
        now_us, sport = self._clock.now_us(), self._book.sports.get(request.sport)
        if isinstance(error, InvalidQueryError) and sport is not None:
            sport.aside_until_us = now_us + int(ASIDE_S * US_PER_S)
            self._log.error("source rejected the query", **fields)
            return
        pause_s = _pause_s(error, request, failures, random.random())
        resume_at_us = now_us + int(pause_s * US_PER_S)
        # One sport's trouble is no reason not to ask for the others; too many questions are too many of any kind.
        if sport is not None and not isinstance(error, RateLimitedError):
            sport.retry_at_us = resume_at_us
        else:
            self._resume_at_us = resume_at_us
        self._log.warning("source unavailable", failures=failures, pause_s=round(pause_s, 2), **fields)

    def _succeeded(self, request: Request) -> None:
        failures = self._failures.pop((request.ask, request.sport), 0)
        if failures:
            self._log.info("source recovered", question=request.ask.value, failures=failures)

    def _say(self, request: Request, skips: Sequence[Skip]) -> None:
        """Logs one line for each part that was left out, only when it is new."""
        news = [skip for skip in dict.fromkeys(skips) if skip not in self._reported.get(request, ())]
        self._reported[request] = frozenset(skips)
        for skip in news[:LINES_PER_ANSWER_MAX]:
            self._log.warning(
                "source data skipped", question=request.ask.value, sport=request.sport, what=skip.what, why=skip.why
            )
        if len(news) > LINES_PER_ANSWER_MAX:
            self._log.warning(
                "source data skipped: more", question=request.ask.value, count=len(news) - LINES_PER_ANSWER_MAX
            )

    def _say_mode(self) -> None:
        now_us, quota = self._clock.now_us(), self._client.quota
        mode = polling.polling_mode(self._pace, len(self._book.sports), quota, now_us)
        if mode is self._mode:
            return
        self._mode = mode
        every_us = polling.affordable_every_us(self._pace, len(self._book.sports), quota.remaining, now_us)
        say = self._log.info if mode is PollingMode.AMPLE else self._log.warning
        say(
            "price polling mode changed",
            mode=mode.value,
            credits_left=quota.remaining,
            reserve=self._pace.reserve_credits,
            every_s=None if every_us is None else every_us // US_PER_S,
            trusted_for_s=self._pace.max_age_us // US_PER_S,
        )


def _pause_s(error: SourceError, request: Request, failures: int, random_unit: float) -> float:
    """How long to send nothing, with jitter; at least what the source asks for."""
    if isinstance(error, RateLimitedError):
        wanted_s = max(TOO_FAST_MIN_S, error.retry_after_s or 0.0)
        return wanted_s + retry.backoff_s(failures, random_unit, base_s=TOO_FAST_MIN_S, cap_s=TOO_FAST_CAP_S)
    # Without credits the free question goes on; if even that is refused, rarely.
    if isinstance(error, QuotaExhaustedError) and request.ask is RequestKind.PULSE:
        return CREDITS_CHECK_S * (1.0 + random_unit)
    cap_s = PULSE_BACKOFF_CAP_S if request.ask is RequestKind.PULSE else BACKOFF_CAP_S
    return BACKOFF_MIN_S + retry.backoff_s(failures, random_unit, base_s=BACKOFF_BASE_S, cap_s=cap_s)
