"""What people type: one spelling of an address, and a reason for everything that is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from betting.runtime.errors import ServiceError
from betting.users import inputs


@pytest.mark.parametrize(
    ("raw", "spelling"),
    [
        ("ann@example.com", "ann@example.com"),
        ("  Ann@Example.COM\n", "ann@example.com"),
        ("ann＠example．com", "ann@example.com"),  # full-width signs
        ("O'Brien+bets@sub.example.co.uk", "o'brien+bets@sub.example.co.uk"),
        ("José@example.com", "josé@example.com"),
        ("jose\u0301@example.com", "josé@example.com"),  # e and accent apart
        ("STRASSE@straße.de", "strasse@xn--strae-oqa.de"),
        ("用户@例え.jp", "用户@xn--r8jz45g.jp"),
    ],
)
def test_spellings_of_one_address_become_one(raw: str, spelling: str) -> None:
    """Case, width, composition and surrounding space do not make another account."""
    assert inputs.normalised_email(raw) == spelling


@pytest.mark.parametrize(
    "raw",
    [
        "",
        " ",
        "ann",
        "@example.com",
        "ann@",
        "ann@localhost",
        "ann@example.com.",
        "ann@exa_mple.com",
        "ann@127.0.0.1",
        "ann@-example.com",
        "ann@example..com",
        ".ann@example.com",
        "ann.@example.com",
        "a..b@example.com",
        "a b@example.com",
        "a@b@example.com",
        "ann\x00@example.com",
        "ann\u200b@example.com",
        '"ann"@example.com',
        "a" * 65 + "@example.com",
        "é" * 33 + "@example.com",
        "ann@" + "a" * 64 + ".com",
        "ann@" + ".".join(["a" * 60] * 5),
        "ann@example.com" + " " * 2000,
        "ﷺ" * 1000 + "@example.com",
    ],
)
def test_what_is_no_address_is_refused(raw: str) -> None:
    """Every text that no mail could reach is EMAIL_INVALID, not an internal error."""
    with pytest.raises(ServiceError) as refused:
        inputs.normalised_email(raw)
    assert refused.value.reason == "EMAIL_INVALID"


@given(st.text(max_size=80), st.sampled_from(["example.com", "straße.de", "例え.jp"]))
def test_normalising_twice_changes_nothing(local: str, domain: str) -> None:
    """An address read from the database is found by itself; other texts are refused with a reason."""
    try:
        once = inputs.normalised_email(f"{local}@{domain}")
    except ServiceError:
        return
    assert inputs.normalised_email(once) == once


@pytest.mark.parametrize("raw", ["0123456789", "x" * 200, "correct horse battery", "пароль-пароль", "🔑" * 10])
def test_passwords_of_ten_to_two_hundred_characters_are_taken(raw: str) -> None:
    """Any script, spaces included."""
    assert inputs.new_password(raw) == raw


@pytest.mark.parametrize("raw", ["", "012345678", "x" * 201, "x" * 100_000, "0123456789\n", "0123456789\x00"])
def test_other_passwords_are_refused(raw: str) -> None:
    """Too short, too long, control characters; the message never repeats the password."""
    with pytest.raises(ServiceError) as refused:
        inputs.new_password(raw)
    assert refused.value.reason == "PASSWORD_INVALID"
    assert not raw or raw not in refused.value.message


def test_a_password_is_the_same_on_every_keyboard() -> None:
    """Composed and decomposed letters and all kinds of space are one password; case is kept."""
    assert inputs.new_password("cafe\u0301\u00a0am Eck") == "café am Eck"


def test_a_short_password_at_login_is_merely_wrong() -> None:
    """The rule for new passwords does not lock out people with older ones; endless ones are refused before hashing."""
    assert inputs.given_password("short") == "short"
    with pytest.raises(ServiceError):
        inputs.given_password("x" * 201)
    with pytest.raises(ServiceError):
        inputs.given_password("")


@pytest.mark.parametrize(("raw", "shown"), [("Ann", "Ann"), ("  Ann \u00a0 Lee ", "Ann Lee"), ("x" * 60, "x" * 60)])
def test_names_are_trimmed(raw: str, shown: str) -> None:
    """Runs of space become one."""
    assert inputs.display_name(raw) == shown


@pytest.mark.parametrize("raw", ["", " \u3000 ", "x" * 61, "x" * 5000, "Ann\n", "Ann\x00", "nn\u202eA", "A\u200bnn"])
def test_names_that_cannot_be_shown_are_refused(raw: str) -> None:
    """Empty, overlong, control, invisible and direction-changing characters."""
    with pytest.raises(ServiceError) as refused:
        inputs.display_name(raw)
    assert refused.value.reason == "DISPLAY_NAME_INVALID"
