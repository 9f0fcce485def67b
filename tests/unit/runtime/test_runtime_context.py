"""The request's context: what is bound, what a detached task keeps."""

from __future__ import annotations

from betting.runtime import context


def test_outside_a_request_there_is_no_deadline() -> None:
    """Nobody waits for background work."""
    assert context.remaining_s() is None
    assert context.correlation_id.get() == ""


def test_bound_sets_and_restores() -> None:
    """Inside the block there is an id and a deadline, afterwards what was before."""
    with context.bound(correlation="abc", timeout_s=5.0):
        remaining_s = context.remaining_s()
        assert remaining_s is not None
        assert 4.0 < remaining_s <= 5.0
        assert context.correlation_id.get() == "abc"
    assert context.remaining_s() is None
    assert context.correlation_id.get() == ""


def test_detached_work_keeps_the_id_but_neither_deadline_nor_caller() -> None:
    """A task that outlives its request can be followed in the log, and is not ended by a caller who left."""
    token = context.principal_token.set(b"token")
    try:
        with context.bound(correlation="abc", timeout_s=5.0), context.detached():
            assert context.remaining_s() is None
            assert context.principal_token.get() is None
            assert context.correlation_id.get() == "abc"
        assert context.principal_token.get() == b"token"
    finally:
        context.principal_token.reset(token)
