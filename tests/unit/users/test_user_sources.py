"""What counts as one source of failed logins."""

from __future__ import annotations

import pytest

from betting.users import throttle


@pytest.mark.parametrize(
    ("source", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("somewhere", "somewhere"),
        ("", ""),
    ],
)
def test_an_ipv6_network_is_one_source(source: str, network: str) -> None:
    """Whoever has a /64 has no more attempts than whoever has one IPv4 address."""
    assert throttle.network_of(source) == network


def test_subjects_of_email_and_source_do_not_mix() -> None:
    """An email that reads like an address counts separately, and rows are locked in one order."""
    attempt = throttle.subjects("192.0.2.7", "192.0.2.7")
    assert attempt.email != attempt.source
    assert set(attempt.ordered()) == {attempt.email, attempt.source}
    assert attempt.ordered() == throttle.subjects("192.0.2.7", "192.0.2.7").ordered()


def test_without_a_source_only_the_email_counts() -> None:
    """Everybody behind one unknown source must not be one subject."""
    attempt = throttle.subjects("ann@example.com", "")
    assert attempt.ordered() == [attempt.email]
