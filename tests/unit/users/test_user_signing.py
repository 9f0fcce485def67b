"""Signing keys: sealed at rest, published before they sign and until their last token has ended."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from betting.users import signing
from betting.users.signing import KeyPolicy, StoredKey

DAY = 86_400_000_000
MINUTE = 60_000_000
POLICY = KeyPolicy(rotation_us=30 * DAY, publish_lead_us=5 * MINUTE, token_lifetime_us=10 * MINUTE, slack_us=MINUTE)
SEALING = signing.sealing_key(b"s" * 32)
START = 1_780_000_000_000_000


def _key(signs_from_us: int) -> StoredKey:
    return signing.generate(SEALING, now_us=signs_from_us, signs_from_us=signs_from_us, policy=POLICY)


def test_a_sealed_key_opens_with_the_same_secret_only() -> None:
    """The private key is not in the row, and comes back whole."""
    key = _key(START)
    opened = signing.unsealed(key, SEALING)
    assert opened is not None
    assert opened.private_key.public_key().public_bytes_raw() == key.public_key
    assert opened.private_key.private_bytes_raw() not in key.sealed_private_key
    assert signing.unsealed(key, signing.sealing_key(b"t" * 32)) is None


@pytest.mark.parametrize("field", ["key_id", "public_key", "sealed_private_key"])
def test_an_altered_row_does_not_open(field: str) -> None:
    """Neither the private key nor what it belongs to can be exchanged in the table."""
    key, other = _key(START), _key(START)
    assert signing.unsealed(dataclasses.replace(key, **{field: getattr(other, field)}), SEALING) is None


@pytest.mark.parametrize("sealed", [b"", b"\x01", b"\x01" + bytes(12), b"\x02" + bytes(60), bytes(5)])
def test_a_truncated_row_does_not_open(sealed: bytes) -> None:
    """Rubbish is not usable rather than an error."""
    assert signing.unsealed(dataclasses.replace(_key(START), sealed_private_key=sealed), SEALING) is None


def test_the_first_key_signs_at_once() -> None:
    """Nobody can have an older token."""
    assert signing.next_key_signs_from_us([], START, POLICY) == START


def test_a_successor_is_published_before_it_signs() -> None:
    """It is made one lead before the rotation is due, signs one lead later, and the old key signs until then."""
    first = _key(START)
    due = START + 30 * DAY - 5 * MINUTE
    assert signing.next_key_signs_from_us([first], due - 1, POLICY) is None
    assert signing.next_key_signs_from_us([first], due, POLICY) == START + 30 * DAY
    second = _key(START + 30 * DAY)
    keys = [first, second]
    assert signing.next_key_signs_from_us(keys, due, POLICY) is None
    assert signing.signer(keys, START + 30 * DAY - 1, POLICY) is first
    assert signing.signer(keys, START + 30 * DAY, POLICY) is second
    assert [key.key_id for key in signing.published(keys, due, POLICY)] == [second.key_id, first.key_id]


def test_an_old_key_stays_published_until_its_last_token_has_ended() -> None:
    """Ten minutes after its successor began to sign, and a minute of slack."""
    keys = [_key(START), _key(START + 30 * DAY)]
    end = START + 30 * DAY + 11 * MINUTE
    assert [key.not_after_us for key in signing.published(keys, end - 1, POLICY)][1] == end
    assert [key.key_id for key in signing.published(keys, end, POLICY)] == [keys[1].key_id]


def test_a_key_nobody_replaced_stops_in_time() -> None:
    """After a long outage the old key signs no token that would outlive it, and a new one starts at once."""
    key = _key(START)
    last = key.not_after_us - 10 * MINUTE
    assert signing.signer([key], last, POLICY) is key
    assert signing.signer([key], last + 1, POLICY) is None
    assert signing.next_key_signs_from_us([key], last + 1, POLICY) == last + 1


@given(st.lists(st.integers(0, 200 * DAY), min_size=1, max_size=200).map(sorted))
def test_every_token_can_be_checked_until_it_ends(moments: list[int]) -> None:
    """Whenever processes wake up to rotate and sign: a token's key stays published for the token's whole life."""
    keys: list[StoredKey] = []
    signed: list[tuple[str, int]] = []
    for moment in moments:
        now = START + moment
        signs_from = signing.next_key_signs_from_us(keys, now, POLICY)
        if signs_from is not None:
            keys.append(_like(_KEY, f"{len(keys):04}", signs_from))
        key = signing.signer(keys, now, POLICY)
        assert key is not None
        signed.append((key.key_id, now))
        published = {key.key_id: key.not_after_us for key in signing.published(keys, now, POLICY)}
        for key_id, at in signed:
            if now < at + POLICY.token_lifetime_us:
                assert published[key_id] >= at + POLICY.token_lifetime_us


_KEY = _key(START)


def _like(key: StoredKey, key_id: str, signs_from_us: int) -> StoredKey:
    """Without generating a key pair, which is slow."""
    span = key.not_after_us - key.signs_from_us
    return dataclasses.replace(key, key_id=key_id, signs_from_us=signs_from_us, not_after_us=signs_from_us + span)


def test_durations_that_cannot_work_are_refused() -> None:
    """A rotation shorter than its lead would never sign."""
    with pytest.raises(AssertionError):
        KeyPolicy(rotation_us=MINUTE, publish_lead_us=MINUTE, token_lifetime_us=1, slack_us=0)
