"""What can go wrong with the source, by what there is to do about it. Pure.

    Exception
    └── SourceError            a code for programs, a sentence that says what to do
        ├── UnreachableError    no answer, or none that makes sense: ask again, in turn slower
        ├── RateLimitedError    asked too often: wait
        ├── QuotaExhaustedError the plan's credits are used up: wait for the next month, or buy
        ├── KeyRejectedError    the key does not open: a person has to change it
        └── InvalidQueryError   this request will never be answered: a setting is wrong

Sentences never hold the key, nor the address that was asked, which holds it too.
Source: https://the-odds-api.com/liveapi/guides/v4/api-error-codes.html; credits that are used up are answered with 401.
"""

from __future__ import annotations

_KEY_CODES = frozenset({"MISSING_KEY", "INVALID_KEY", "DEACTIVATED_KEY"})
_CREDITS_CODE = "OUT_OF_USAGE_CREDITS"
_WRONG = frozenset({400, 404, 422})


class SourceError(Exception):
    """The source did not give what was asked for."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class UnreachableError(SourceError):
    """No answer, or none that makes sense."""


class RateLimitedError(SourceError):
    """Asked too often; `retry_after_s` is what the source wants, if it says."""

    def __init__(self, code: str, message: str, retry_after_s: float | None) -> None:
        super().__init__(code, message)
        self.retry_after_s = retry_after_s


class QuotaExhaustedError(SourceError):
    """The plan's credits are used up."""


class KeyRejectedError(SourceError):
    """The key does not open."""


class InvalidQueryError(SourceError):
    """A setting is wrong."""


def of_status(status: int, code: str, retry_after_s: float | None) -> SourceError:
    """The error of an answer that is not 200; `code` is the body's error_code, empty when it has none."""
    named = code or f"HTTP_{status}"
    if code == _CREDITS_CODE:
        return QuotaExhaustedError(
            code, "the month's credits are used up: wait for the next month or take a larger plan"
        )
    if code in _KEY_CODES or status == 401:
        return KeyRejectedError(
            named, "the key is refused: set BETTING_ODDS_API_KEY to a valid one of your account and start again"
        )
    if status == 429:
        return RateLimitedError(named, "too many requests: waiting", retry_after_s)
    if status in _WRONG:
        return InvalidQueryError(
            named, "the request is refused: check BETTING_ODDS_API_SPORTS, _REGIONS, _MARKETS and _URL"
        )
    return UnreachableError(named, f"the source answers with status {status}: asking again")
