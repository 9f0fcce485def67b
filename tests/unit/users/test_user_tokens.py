"""Access tokens say what the gateway checks; refresh tokens are opaque and only their hash is stored."""

from __future__ import annotations

import hashlib
import uuid

import jwt
import pytest

from betting.users import signing, tokens
from betting.users.model import Role

NOW_US = 1_780_000_000_999_999
POLICY = signing.KeyPolicy(rotation_us=10**13, publish_lead_us=10**8, token_lifetime_us=6 * 10**8, slack_us=0)


def _key() -> tuple[signing.StoredKey, signing.UnsealedKey]:
    sealing = signing.sealing_key(b"s" * 32)
    stored = signing.generate(sealing, now_us=NOW_US, signs_from_us=NOW_US, policy=POLICY)
    opened = signing.unsealed(stored, sealing)
    assert opened is not None
    return stored, opened


def test_an_access_token_carries_the_agreed_claims() -> None:
    """Header and claims, whole seconds, verifiable with the public key alone."""
    _, key = _key()
    user_id, session_id = uuid.uuid4(), uuid.uuid4()
    token = tokens.access_token(
        key, user_id=user_id, session_id=session_id, role=Role.OPERATOR, now_us=NOW_US, lifetime_us=600_000_000
    )
    assert jwt.get_unverified_header(token.text) == {"alg": "EdDSA", "typ": "JWT", "kid": key.key_id}
    claims = jwt.decode(
        token.text,
        key.private_key.public_key(),
        algorithms=["EdDSA"],
        options={"verify_exp": False, "verify_iat": False},
    )
    assert claims == {
        "iss": "betting",
        "sub": str(user_id),
        "sid": str(session_id),
        "iat": 1_780_000_000,
        "exp": 1_780_000_600,
        "role": "operator",
    }
    assert token.expires_at_us == 1_780_000_600_000_000


def test_another_key_does_not_verify_it() -> None:
    """The signature is checked, not only there."""
    _, key = _key()
    _, other = _key()
    token = tokens.access_token(
        key, user_id=uuid.uuid4(), session_id=uuid.uuid4(), role=Role.BETTOR, now_us=NOW_US, lifetime_us=1_000_000
    )
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token.text, other.private_key.public_key(), algorithms=["EdDSA"])


def test_refresh_tokens_are_recognised_and_stored_as_a_hash() -> None:
    """256 random bits; the stored form is SHA-256 of what the client holds."""
    token = tokens.new_refresh_token()
    assert tokens.is_refresh_token(token)
    assert tokens.new_refresh_token() != token
    assert tokens.stored_form(token) == hashlib.sha256(token.encode()).digest()


@pytest.mark.parametrize("text", ["", "x", "x" * 42, "x" * 44, "x" * 42 + "=", "x" * 42 + "é", "x" * 43 + "\n"])
def test_other_texts_are_no_refresh_tokens(text: str) -> None:
    """They are refused before any query."""
    assert not tokens.is_refresh_token(text)
