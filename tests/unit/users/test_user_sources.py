"""What counts as one place that logins come from, and what proves a device."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from betting.users import tokens
from betting.users.throttle import Attempt, LoginKind, ThrottlePolicy

KEY = tokens.derived_key(b"secret", "devices")
POLICY = ThrottlePolicy(window_us=1, per_place=1, per_known_place=2, per_account=3, per_source=4)
DAY_US = 86_400_000_000


def test_subjects_do_not_mix() -> None:
    """Account, network, account and network, device, known network, and each of them at each door: all different."""
    found: list[bytes | None] = []
    for login_kind in LoginKind:
        for attempt in (
            Attempt(login_kind, "192.0.2.7", "192.0.2.7"),
            Attempt(login_kind, "192.0.2.7", "192.0.2.7", b"192.0.2.7"),
            Attempt(login_kind, "192.0.2.7192.0.2.7", ""),
        ):
            found += [attempt.place, *(subject for subject, _ in attempt.wider(POLICY))]
    found.append(Attempt(LoginKind.EVERYONE, "192.0.2.7", "192.0.2.7").network)
    repeated = 2 * len(LoginKind)  # source and account of the device's attempt are those of the first
    assert len(set(found)) == len(found) - repeated


def test_an_ipv6_network_is_one_source() -> None:
    """Whoever has a /64 has no more attempts than whoever has one IPv4 address."""
    one, other, strange = (
        Attempt(LoginKind.EVERYONE, "ann@example.com", source)
        for source in ("2001:db8:1:2::7", "2001:db8:1:2:3:4:5:6", "2001:db8:1:3::7")
    )
    assert (one.place, one.network, *one.wider(POLICY)) == (other.place, other.network, *other.wider(POLICY))
    assert one.place != strange.place


def test_without_a_source_there_is_no_network_to_count_or_remember() -> None:
    """Everybody behind one unknown source must not be one subject."""
    attempt = Attempt(LoginKind.EVERYONE, "ann@example.com", "")
    assert attempt.network is None
    assert [limit for _, limit in attempt.wider(POLICY)] == [POLICY.per_account]


def test_a_device_token_names_its_device_for_its_account_and_time() -> None:
    """Under the key that made it, until its lifetime is over."""
    token = tokens.device_token(KEY, "ann@example.com", b"d" * 16, DAY_US)
    assert tokens.device_of(KEY, "ann@example.com", token, 2 * DAY_US - 1, DAY_US) == b"d" * 16
    assert tokens.device_of(KEY, "ann@example.com", token, 2 * DAY_US, DAY_US) is None
    assert tokens.device_of(KEY, "bob@example.com", token, DAY_US, DAY_US) is None
    assert tokens.device_of(b"another key", "ann@example.com", token, DAY_US, DAY_US) is None


def test_a_device_token_has_one_spelling() -> None:
    """Base64 decodes three more to the same bytes."""
    token = tokens.device_token(KEY, "ann@example.com", b"d" * 16, DAY_US)
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    spellings = [token[:-1] + last for last in alphabet]
    assert [each for each in spellings if tokens.device_of(KEY, "ann@example.com", each, DAY_US, DAY_US)] == [token]


@given(st.text() | st.text("ABCxyz019-_+/=", min_size=70, max_size=80))
def test_other_texts_are_no_device_token(text: str) -> None:
    """Whatever comes in: no device, and no error."""
    assert tokens.device_of(KEY, "ann@example.com", text, DAY_US, DAY_US) is None


def test_a_refresh_token_has_one_successor_that_looks_like_a_refresh_token() -> None:
    """The same from every process with the same key, and nobody else's."""
    first = tokens.new_refresh_token()
    successor = tokens.successor(KEY, first)
    assert tokens.is_refresh_token(successor)
    assert successor == tokens.successor(KEY, first) != tokens.successor(b"another key", first)
