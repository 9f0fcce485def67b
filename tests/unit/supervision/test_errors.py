"""The errors that people read."""

from __future__ import annotations

import pytest

from betting.supervision.errors import PlatformError, SettingsRefused


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("BETTING_SPED is not a setting: did you mean BETTING_SPEED?.", "did you mean BETTING_SPEED?"),
        ("It did not start (it said no.).", "(it said no.)."),
        ("Postgres says no..", "Postgres says no."),
        ("Not really!.", "Not really!"),
        ("See a.b.", "See a.b."),
    ],
)
def test_a_sentence_has_one_end(written: str, read: str) -> None:
    """What is quoted at the end of a sentence may have an end of its own."""
    assert str(PlatformError(written)).endswith(read)


def test_wrong_settings_have_an_exit_code_of_their_own() -> None:
    """2, as of the services themselves."""
    assert (PlatformError("x").exit_code, SettingsRefused("x").exit_code) == (1, 2)
