"""Access tokens: only genuine ones that have not ended and were not revoked let anybody in."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from betting.gateway import tokens
from betting.gateway.authentication import HEADERS_PER_SESSION_MAX, Caller, Callers, SigningKeys
from betting.gateway.limits import Bucket
from betting.gateway.revocations import RevokedSessions
from betting.gateway.settings import Rate
from betting.internal.v1 import keys_pb2
from betting.runtime.errors import ServiceError, unavailable
from betting.runtime.principal import Role

KEY = Ed25519PrivateKey.generate()
NOW_US = 1_900_000_000_000_000
USER, SESSION = uuid.uuid4(), uuid.uuid4()


def token(*, key: Any = KEY, algorithm: str = "EdDSA", headers: dict[str, Any] | None = None, **changes: Any) -> str:
    """A token that is good unless changed; a claim changed to None is left out."""
    said = {"iss": "betting", "sub": str(USER), "sid": str(SESSION), "role": "bettor",
            "iat": NOW_US // 10**6, "exp": NOW_US // 10**6 + 600}  # fmt: skip
    claims = {name: value for name, value in (said | changes).items() if value is not None}
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": "k1"} | (headers or {}))


def reason(call: Any, *arguments: Any) -> str:
    """The reason of the UNAUTHENTICATED that a call raises."""
    with pytest.raises(ServiceError) as caught:
        call(*arguments)
    assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
    return caught.value.reason


def test_a_good_token_says_who_it_is() -> None:
    """User, session, role and end come out of the token."""
    claims = tokens.claims(token(role="operator"), KEY.public_key(), NOW_US)
    assert (claims.user_id, claims.session_id, claims.role) == (USER.bytes, SESSION.bytes, Role.OPERATOR)
    assert claims.expires_at_us == NOW_US + 600 * 10**6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (token(exp=NOW_US // 10**6), "TOKEN_EXPIRED"),
        (token(exp=1), "TOKEN_EXPIRED"),
        (token(key=Ed25519PrivateKey.generate()), "TOKEN_FORGED"),
        (token(iss="somebody"), "TOKEN_MALFORMED"),
        (token(iss=None), "TOKEN_MALFORMED"),
        (token(sub="me"), "TOKEN_MALFORMED"),
        (token(sid=None), "TOKEN_MALFORMED"),
        (token(role="admin"), "TOKEN_MALFORMED"),
        (token(exp=10**30), "TOKEN_MALFORMED"),
        (token(exp=None), "TOKEN_MALFORMED"),
        ("nonsense", "TOKEN_MALFORMED"),
    ],
)
def test_bad_tokens_are_refused(text: str, expected: str) -> None:
    """Expired, forged and foreign tokens each say what is wrong."""
    assert reason(tokens.claims, text, KEY.public_key(), NOW_US) == expected


def test_algorithm_none_and_secrets_are_refused() -> None:
    """A token may not choose how it is checked."""
    unsigned = jwt.encode({"sub": "x"}, None, algorithm="none", headers={"kid": "k1"})  # type: ignore[arg-type]
    public = KEY.public_key().public_bytes_raw().hex()
    symmetric = token(key=public, algorithm="HS256")
    for text in (unsigned, symmetric):
        assert reason(tokens.key_id, text) == "TOKEN_MALFORMED"
        assert reason(tokens.claims, text, KEY.public_key(), NOW_US) == "TOKEN_MALFORMED"


def test_the_key_is_named_in_the_header() -> None:
    """Tokens without a usable key id are malformed."""
    assert tokens.key_id(token()) == "k1"
    assert reason(tokens.key_id, token(headers={"kid": "x" * 200})) == "TOKEN_MALFORMED"
    head = base64.urlsafe_b64encode(json.dumps({"alg": "EdDSA", "kid": 5}).encode()).rstrip(b"=").decode()
    assert reason(tokens.key_id, head + "." + token().split(".", 1)[1]) == "TOKEN_MALFORMED"


@given(
    st.text(max_size=80) | st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode() + ".e30.AA")
)
def test_any_text_is_refused_and_nothing_else(text: str) -> None:
    """No text makes the checks raise anything but UNAUTHENTICATED."""
    assert reason(tokens.key_id, text) == "TOKEN_MALFORMED"
    assert reason(tokens.claims, text, KEY.public_key(), NOW_US) == "TOKEN_MALFORMED"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, "TOKEN_MISSING"),
        ("", "TOKEN_MISSING"),
        ("Basic abc", "TOKEN_MALFORMED"),
        ("Bearer " + "x" * 5_000, "TOKEN_MALFORMED"),
    ],
)
def test_authorization_headers(header: str | None, expected: str) -> None:
    """Only a bearer token of reasonable length is looked at."""
    assert reason(tokens.bearer, header) == expected


def caller(session: bytes = b"s" * 16, expires_at_us: int = NOW_US + 1) -> Caller:
    """A caller as the authenticator makes it."""
    bucket = Bucket("k", Rate(1, 1), 0.0)
    return Caller(
        user_id=b"u" * 16, session_id=session, role=Role.BETTOR, expires_at_us=expires_at_us, principal=b"",
        shard_id=0, money=bucket, reads=bucket,
    )  # fmt: skip


def test_known_callers_are_found_until_their_token_ends() -> None:
    """The cache answers for a token's life only."""
    callers = Callers(10)
    known = caller()
    callers.put("Bearer a", known)
    assert callers.get("Bearer a", NOW_US) is known
    assert callers.get("Bearer a", NOW_US + 1) is None
    assert len(callers) == 0


def test_a_revoked_session_ends_all_its_tokens() -> None:
    """Both tokens of the session stop working, another session's goes on."""
    callers = Callers(10)
    first, second, other = caller(), caller(), caller(b"o" * 16)
    for header, one in (("a", first), ("b", second), ("c", other)):
        callers.put(header, one)
    assert callers.revoke(b"s" * 16) == 2
    assert (first.revoked, second.revoked, other.revoked) == (True, True, False)
    assert callers.get("a", NOW_US) is None
    assert callers.get("c", NOW_US) is other


def test_a_caller_that_was_forgotten_must_be_checked_again() -> None:
    """Revocation reaches only callers in the cache, so those pushed out of it are not to be trusted any more."""
    callers = Callers(1)
    first = caller()
    callers.put("a", first)
    callers.put("b", caller(b"o" * 16))
    assert first.revoked
    assert len(callers) == 1


def test_one_token_written_in_many_ways_drives_nobody_out() -> None:
    """Spaces, capitals and loose base64 make countless headers of one token: it has a few places, the newest ones."""
    callers = Callers(100)
    other = caller(b"o" * 16)
    callers.put("other", other)
    mine = [caller() for _ in range(1_000)]
    for number, each in enumerate(mine):
        callers.put(f"Bearer {' ' * number}token", each)
    assert callers.get("other", NOW_US) is other
    assert len(callers) == 1 + HEADERS_PER_SESSION_MAX
    assert [each.revoked for each in mine[-HEADERS_PER_SESSION_MAX - 1 :]] == [True, *[False] * HEADERS_PER_SESSION_MAX]
    assert callers.revoke(b"s" * 16) == HEADERS_PER_SESSION_MAX


def test_revoked_sessions_are_kept_until_their_tokens_have_ended() -> None:
    """And no longer, so that the set stays small."""
    revoked = RevokedSessions()
    assert revoked.add(b"a" * 16, 100, 50)
    assert not revoked.add(b"a" * 16, 100, 50)
    assert not revoked.add(b"b" * 16, 40, 50)
    assert b"a" * 16 in revoked
    revoked.add(b"c" * 16, 300, 100)
    assert b"a" * 16 not in revoked
    assert len(revoked) == 1


def test_the_set_of_revoked_sessions_is_bounded() -> None:
    """Over capacity, those that end soonest go."""
    revoked = RevokedSessions(capacity=2)
    for number, end in ((1, 300), (2, 100), (3, 200)):
        revoked.add(bytes([number]) * 16, end, 0)
    assert [bytes([number]) * 16 in revoked for number in (1, 2, 3)] == [True, False, True]


class Keys:
    """What user-service would answer, and how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.there = True
        self.keys = [self.key("k1", KEY)]

    @staticmethod
    def key(key_id: str, key: Ed25519PrivateKey, not_after_us: int = 2**60) -> keys_pb2.SigningKey:
        """A published key."""
        raw = key.public_key().public_bytes_raw()
        return keys_pb2.SigningKey(key_id=key_id, public_key=raw, not_after_us=not_after_us)

    async def fetch(self) -> list[keys_pb2.SigningKey]:
        """All published keys."""
        self.asked += 1
        if not self.there:
            raise unavailable("X", "x")
        return self.keys


async def test_made_up_keys_do_not_become_calls() -> None:
    """Unknown key ids ask user-service once per interval, however many tokens name them."""
    source = Keys()
    keys = SigningKeys(source.fetch)
    assert (await keys.get("k1")).public_bytes_raw() == KEY.public_key().public_bytes_raw()
    for number in range(50):
        with pytest.raises(ServiceError) as caught:
            await keys.get(f"made-up-{number}")
        assert caught.value.reason == "KEY_UNKNOWN"
    assert source.asked == 1


async def test_a_new_key_is_found_when_a_token_names_it() -> None:
    """After a rotation the first token with the new key makes the gateway look."""
    source = Keys()
    keys = SigningKeys(source.fetch, min_refresh_interval_s=0.0)
    await keys.get("k1")
    source.keys.append(Keys.key("k2", Ed25519PrivateKey.generate()))
    await keys.get("k2")
    assert source.asked == 2


async def test_keys_survive_an_outage_of_user_service() -> None:
    """Known keys go on to be used; without any, the caller is told to come back, not that its token is bad."""
    source = Keys()
    keys = SigningKeys(source.fetch, min_refresh_interval_s=0.0)
    source.there = False
    with pytest.raises(ServiceError) as caught:
        await keys.get("k1")
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "KEYS_UNAVAILABLE")
    source.there = True
    await keys.get("k1")
    source.there = False
    await keys.get("k1")


async def test_callers_wait_for_a_user_service_that_starts_after_the_gateway() -> None:
    """Right after the start one slow answer more is better than a refusal; hundred callers are one question."""
    source = Keys()
    source.there = False
    keys = SigningKeys(source.fetch)
    with pytest.raises(ServiceError):
        await keys.get("k1")
    source.there = True
    found = await asyncio.gather(*(keys.get("k1") for _ in range(100)))
    assert len(found) == 100
    assert source.asked == 2


async def test_ended_and_broken_keys_are_not_used() -> None:
    """A key past its end, or of the wrong length, checks nothing."""
    source = Keys()
    source.keys = [
        Keys.key("old", KEY, not_after_us=1),
        keys_pb2.SigningKey(key_id="short", public_key=b"x", not_after_us=2**60),
    ]
    keys = SigningKeys(source.fetch)
    for key_id in ("old", "short"):
        with pytest.raises(ServiceError) as caught:
            await keys.get(key_id)
        assert caught.value.reason == "KEY_UNKNOWN"
