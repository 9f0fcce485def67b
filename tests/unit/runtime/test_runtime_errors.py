"""Errors: what a reason looks like on the wire, and that nobody else's bytes are taken for one."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from betting.runtime import errors

_MAKERS = {
    errors.invalid_argument: "INVALID_ARGUMENT",
    errors.not_found: "NOT_FOUND",
    errors.already_exists: "ALREADY_EXISTS",
    errors.unauthenticated: "UNAUTHENTICATED",
    errors.permission_denied: "PERMISSION_DENIED",
    errors.failed_precondition: "FAILED_PRECONDITION",
    errors.aborted: "ABORTED",
    errors.resource_exhausted: "RESOURCE_EXHAUSTED",
    errors.unavailable: "UNAVAILABLE",
    errors.deadline_exceeded: "DEADLINE_EXCEEDED",
    errors.internal: "INTERNAL",
}


@pytest.mark.parametrize(("make", "code"), list(_MAKERS.items()))
def test_each_maker_makes_its_code(make: object, code: str) -> None:
    """The function's name is the code."""
    error = make("SOME_REASON", "a sentence")  # type: ignore[operator]
    assert (error.code.name, error.reason, error.message) == (code, "SOME_REASON", "a sentence")
    assert str(error) == f"{code} SOME_REASON: a sentence"


def test_details_are_a_google_status_with_one_error_info() -> None:
    """Any gRPC client that knows google.rpc can read our reason."""
    raw = errors.encode_details(errors.not_found("BET_NOT_FOUND", "no such bet"))
    status = status_pb2.Status.FromString(raw)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, status.message) == (5, "no such bet")
    assert (info.reason, info.domain) == ("BET_NOT_FOUND", "selfhealing.bet")
    assert errors.decode_reason(raw) == "BET_NOT_FOUND"


def test_a_reason_of_another_domain_is_not_ours() -> None:
    """A proxy's ErrorInfo must not be taken for a service's."""
    status = status_pb2.Status(code=14)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="X", domain="example.com"))
    assert errors.decode_reason(status.SerializeToString()) is None


@given(st.one_of(st.none(), st.text(), st.binary(max_size=200)))
def test_bytes_that_are_no_details_give_no_reason(raw: bytes | str | None) -> None:
    """Rubbish in the trailers is no reason and no crash."""
    assert errors.decode_reason(raw) is None


def test_a_damaged_error_info_gives_no_reason() -> None:
    """A well-formed status around bytes that are no ErrorInfo is no reason and no crash."""
    status = status_pb2.Status(code=14)
    entry = status.details.add()
    entry.type_url, entry.value = "type.googleapis.com/google.rpc.ErrorInfo", b"\xff\xff"
    assert errors.decode_reason(status.SerializeToString()) is None


def test_long_messages_are_cut_to_fit_a_header() -> None:
    """A message as long as a book would break the frame that carries it."""
    error = errors.internal("X", "m" * 100_000)
    assert len(errors.bounded_message(error)) == errors.MESSAGE_LENGTH_MAX
    assert len(errors.encode_details(error)) < 2 * errors.MESSAGE_LENGTH_MAX


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_codes_are_found_by_number(code: grpc.StatusCode) -> None:
    """Numbers of google.rpc.Code and members agree; undefined numbers are UNKNOWN."""
    assert errors.code_from_number(code.value[0]) is code
    assert errors.code_from_number(99) is grpc.StatusCode.UNKNOWN
