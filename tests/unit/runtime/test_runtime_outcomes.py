"""What a process experiences with those it calls: windows, silence, and what says nothing."""

from __future__ import annotations

import grpc
import pytest

from betting.health.settings import HealthSettings
from betting.life import Life
from betting.runtime.errors import ServiceError
from betting.runtime.method import class_of
from betting.runtime.outcomes import End, Outcomes, PeerRecords, end_of

OBJECTIVE_S = 0.5


FIRST, SECOND = Life("wallet-service", "wallet-1", "aa"), Life("wallet-service", "wallet-1", "bb")


def asked(outcomes: Outcomes, at_s: float, took_s: float, end: End, life: Life | None = None) -> None:
    """One call from begin to end, and which life answered it."""
    outcomes.ended(outcomes.began(at_s, OBJECTIVE_S), end, at_s + took_s, life)


def test_calls_failures_and_latency_are_those_of_the_last_ten_seconds() -> None:
    """Older ones are forgotten slot by slot."""
    outcomes = Outcomes("a:1")
    for number in range(20):
        asked(outcomes, 100 + number / 10, 0.004, End.FAILED if number < 5 else End.ANSWERED)
    now = outcomes.statistics(103)
    assert (now.calls, now.failures, now.p90_s) == (20, 5, 0.005)
    asked(outcomes, 109.9, 2.0, End.ANSWERED)
    later = outcomes.statistics(113)
    assert (later.calls, later.failures, later.p90_s) == (1, 0, 2.5)
    assert outcomes.statistics(1_000).calls == 0


def test_silence_counts_from_the_first_call_without_an_answer() -> None:
    """In flight or over; an answer, a refusal too, ends it."""
    outcomes = Outcomes("a:1")
    asked(outcomes, 10, 0.1, End.ANSWERED)
    assert outcomes.statistics(15).silent_s == 0
    first, second = outcomes.began(16, OBJECTIVE_S), outcomes.began(17, OBJECTIVE_S)
    waiting = outcomes.statistics(19)
    assert (waiting.unanswered, waiting.silent_s) == (2, 3)
    assert waiting.answered_ago_s == pytest.approx(8.9)
    outcomes.ended(first, End.UNANSWERED, 20)
    assert outcomes.statistics(20).silent_s == 4
    outcomes.ended(second, End.FAILED, 21)
    assert (outcomes.statistics(22).unanswered, outcomes.statistics(22).silent_s) == (0, 0)
    assert outcomes.statistics(22).answered_ago_s == 1


def test_who_is_not_asked_is_not_silent() -> None:
    """After a window without a question nobody knows; what a caller gave up says nothing."""
    outcomes = Outcomes("a:1")
    asked(outcomes, 10, 1, End.UNANSWERED)
    assert outcomes.statistics(12).silent_s == 2
    assert outcomes.statistics(21).silent_s == 0
    given_up = Outcomes("a:1")
    asked(given_up, 10, 1, End.GIVEN_UP)
    assert (given_up.statistics(12).unanswered, given_up.statistics(12).calls) == (0, 0)


def test_short_deadlines_one_after_another_are_no_silence() -> None:
    """Sixty calls a second that their callers give up after 105 ms, for a minute: nobody waited in vain."""
    outcomes = Outcomes("a:1")
    flying: list[int] = []
    for number in range(3_600):
        now_s = 100 + number / 60
        flying.append(outcomes.began(now_s, OBJECTIVE_S))
        if len(flying) > 6:
            outcomes.ended(flying.pop(0), End.GIVEN_UP, now_s)
        seen = outcomes.statistics(now_s)
        assert (seen.unanswered, seen.silent_s, seen.failures) == (0, 0, 0)


def test_a_call_in_flight_counts_once_it_is_overdue() -> None:
    """A slow method's objective is longer; what is overdue has been silent since it was asked."""
    outcomes = Outcomes("a:1")
    outcomes.began(10, 4.0)
    assert outcomes.statistics(13.9).unanswered == 0
    assert (outcomes.statistics(14).unanswered, outcomes.statistics(14).silent_s) == (1, 4)


def test_two_old_timeouts_do_not_grow_with_calls_that_say_nothing() -> None:
    """After a window without a call that could tell, nobody knows."""
    outcomes = Outcomes("a:1")
    for _ in range(2):
        asked(outcomes, 10, 1, End.UNANSWERED)
    for at_s in range(12, 30):
        asked(outcomes, at_s, 0.1, End.GIVEN_UP)
    assert (outcomes.statistics(30).unanswered, outcomes.statistics(30).silent_s) == (0, 0)


@pytest.mark.parametrize(
    ("code", "reason", "timeout_s", "end"),
    [
        (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE", 5, End.UNANSWERED),
        (grpc.StatusCode.UNAVAILABLE, "DATABASE_AWAY", 5, End.FAILED),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", 5, End.UNANSWERED),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", 0.5, End.UNANSWERED),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", 0.105, End.GIVEN_UP),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_IN_QUEUE", 5, End.ANSWERED),
        (grpc.StatusCode.UNAVAILABLE, "SHARD_UNAVAILABLE", 5, End.ANSWERED),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", 5, End.ANSWERED),
        (grpc.StatusCode.INVALID_ARGUMENT, "STAKE", 5, End.ANSWERED),
        (grpc.StatusCode.UNAVAILABLE, "CHANNEL_CLOSED", 5, End.GIVEN_UP),
        (grpc.StatusCode.CANCELLED, "CANCELLED", 5, End.GIVEN_UP),
    ],
)
def test_what_an_error_says_of_the_other_side(code: grpc.StatusCode, reason: str, timeout_s: float, end: End) -> None:
    """Its own word is an answer; a deadline that gave no fair time says nothing."""
    assert end_of(ServiceError(code, reason, "…"), timeout_s, OBJECTIVE_S) is end


def test_a_record_is_about_nobody_until_somebody_answers_with_a_name() -> None:
    """Unless it is known beforehand who is called; what came before the first answer is about nobody for ever."""
    outcomes = Outcomes("a:1")
    asked(outcomes, 10, 1, End.UNANSWERED)
    assert (outcomes.statistics(12).life, outcomes.statistics(12).unanswered) == (None, 1)
    asked(outcomes, 12, 0.1, End.ANSWERED, FIRST)
    now = outcomes.statistics(13)
    assert (now.life, now.calls, now.failures, now.unanswered) == (FIRST, 1, 0, 0)
    known = Outcomes("a:1", FIRST)
    asked(known, 10, 1, End.UNANSWERED)
    assert (known.statistics(12).life, known.statistics(12).unanswered) == (FIRST, 1)


def test_when_another_life_answers_the_record_begins_anew() -> None:
    """Nothing from before counts for or against it: no failure, no answer, no silence, no call still in flight."""
    outcomes = Outcomes("a:1")
    for at_s in range(5):
        asked(outcomes, 100 + at_s / 10, 0.001, End.FAILED, FIRST)
    flying, late = outcomes.began(101, OBJECTIVE_S), outcomes.began(101, OBJECTIVE_S)
    asked(outcomes, 101, 1, End.UNANSWERED)
    before = outcomes.statistics(102.5)
    assert (before.life, before.calls, before.failures, before.unanswered) == (FIRST, 6, 6, 3)
    asked(outcomes, 103, 0.004, End.ANSWERED, SECOND)
    outcomes.ended(flying, End.UNANSWERED, 104)
    now = outcomes.statistics(105)
    assert (now.life, now.calls, now.failures, now.p90_s, now.unanswered, now.silent_s) == (SECOND, 1, 0, 0.005, 0, 0)
    outcomes.ended(late, End.ANSWERED, 105, SECOND)
    assert outcomes.statistics(105).calls == 2


def test_lives_that_answer_in_turn_make_a_record_about_nobody() -> None:
    """Behind a balancer a call without an answer may have been meant for either; over a window later."""
    outcomes = Outcomes("a:1")
    asked(outcomes, 100, 0.001, End.ANSWERED, FIRST)
    asked(outcomes, 101, 0.001, End.ANSWERED, SECOND)
    assert outcomes.statistics(101.5).life == SECOND
    asked(outcomes, 102, 0.001, End.ANSWERED, FIRST)
    assert outcomes.statistics(103).life is None
    asked(outcomes, 108, 0.001, End.ANSWERED, FIRST)
    assert outcomes.statistics(113).life == FIRST


def test_a_reply_without_a_name_changes_nothing_about_whom_the_record_is() -> None:
    """gRPC answers some calls by itself."""
    outcomes = Outcomes("a:1", FIRST)
    asked(outcomes, 100, 0.001, End.ANSWERED)
    assert (outcomes.statistics(101).life, outcomes.statistics(101).calls) == (FIRST, 1)


def test_each_connection_has_its_record_until_it_is_closed() -> None:
    """A new connection to the same address begins anew."""
    records = PeerRecords()
    first, second = records.opened("a:1"), records.opened("a:1")
    asked(first, 10, 1, End.ANSWERED)
    records.closed(first)
    assert [each.calls for each in records.statistics(11)] == [0]
    records.closed(second)
    assert records.statistics(11) == []


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/betting.v1.UserService/Register", "register"),
        ("/betting.v1.UserService/Login", "login"),
        ("/betting.v1.UserService/OperatorLogin", "operator-login"),
        ("/betting.v1.UserService/Refresh", "refresh"),
        ("/betting.v1.UserService/GetProfile", "read"),
        ("/betting.v1.EventService/ListEvents", "read"),
        ("/betting.v1.WalletService/Deposit", "write"),
        ("/betting.internal.v1.SigningKeyService/ListSigningKeys", "internal"),
        ("/betting.internal.v1.OwnerService/SettleMarket", "settle"),
    ],
)
def test_methods_have_classes(path: str, name: str) -> None:
    """What one method costs is charged to its class; probes of the health monitor are long enough to be evidence."""
    found = class_of(path)
    assert found.name == name
    assert found.wait_max_s < found.objective_s
    assert name in ("register", "login", "operator-login", "settle") or found.objective_s < PROBE_S


PROBE_S = HealthSettings.model_fields["probe_timeout"].default.total_seconds()
