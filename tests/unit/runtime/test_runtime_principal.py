"""Principals: what is signed comes back, anything else is refused with its own reason."""

from __future__ import annotations

import hmac
from unittest.mock import sentinel

import pytest
from hypothesis import given
from hypothesis import strategies as st

from betting.runtime import principal
from betting.runtime.errors import ServiceError
from betting.runtime.principal import TOKEN_LENGTH, Principal, Role, Verifier, service_principal, sign

SECRET = bytes(range(32))
USER = b"u" * 16
SESSION = b"s" * 16


def _token(
    expires_at_us: int = 1000, secret: bytes = SECRET, user: bytes | None = USER, role: Role = Role.BETTOR
) -> bytes:
    return sign(Principal(user, role, SESSION, expires_at_us), secret)


def _refusal(verifier: Verifier, token: bytes, now_us: int = 0) -> str:
    with pytest.raises(ServiceError) as caught:
        verifier.verify(token, now_us)
    assert caught.value.code.name == "UNAUTHENTICATED"
    return caught.value.reason


@given(
    user=st.one_of(st.none(), st.binary(min_size=16, max_size=16)),
    role=st.sampled_from(Role),
    session=st.binary(min_size=16, max_size=16),
    expires_at_us=st.integers(1, 2**63 - 1),
)
def test_what_is_signed_is_what_is_verified(user: bytes | None, role: Role, session: bytes, expires_at_us: int) -> None:
    """Every principal survives the way through a token, the user of sixteen zero bytes included."""
    expected = Principal(user, role, session, expires_at_us)
    verifier = Verifier(SECRET)
    token = sign(expected, SECRET)
    assert len(token) == TOKEN_LENGTH
    assert verifier.verify(token, expires_at_us - 1) == expected
    assert verifier.verify(token, expires_at_us - 1) == expected


@given(position=st.integers(0, TOKEN_LENGTH - 1), bit=st.integers(0, 7))
def test_one_flipped_bit_anywhere_is_a_forgery(position: int, bit: int) -> None:
    """No byte of a token is left unprotected."""
    token = bytearray(_token())
    token[position] ^= 1 << bit
    assert _refusal(Verifier(SECRET), bytes(token)) == "PRINCIPAL_FORGED"


def test_another_secret_is_a_forgery() -> None:
    """Tokens of another platform are not ours."""
    assert _refusal(Verifier(SECRET), _token(secret=bytes(32))) == "PRINCIPAL_FORGED"


@pytest.mark.parametrize("token", [b"", b"x", b"x" * (TOKEN_LENGTH - 1), b"x" * (TOKEN_LENGTH + 1), b"x" * 10_000])
def test_another_length_is_malformed(token: bytes) -> None:
    """Lengths are checked before anything is computed."""
    assert _refusal(Verifier(SECRET), token) == "PRINCIPAL_MALFORMED"


@pytest.mark.parametrize(("index", "value"), [(0, 2), (1, 0), (1, 99)])
def test_a_version_or_role_we_do_not_know_is_malformed(index: int, value: int) -> None:
    """Signed by us, but of a later version: refused, not guessed at."""
    body = bytearray(_token()[:-32])
    body[index] = value
    token = bytes(body) + hmac.digest(SECRET, bytes(body), "sha256")
    assert _refusal(Verifier(SECRET), token) == "PRINCIPAL_MALFORMED"


def test_a_token_expires_at_its_time_also_when_it_is_known() -> None:
    """The microsecond of expiry is too late, cached or not, and an expired token is not kept."""
    verifier = Verifier(SECRET)
    assert verifier.verify(_token(1000), 999).user_id == USER
    assert _refusal(verifier, _token(1000), 1000) == "PRINCIPAL_EXPIRED"
    assert len(verifier) == 0
    assert _refusal(verifier, _token(1000), 1000) == "PRINCIPAL_EXPIRED"


def test_the_cache_keeps_its_bound_and_what_is_used() -> None:
    """The least recently used goes first; forgeries never get in."""
    verifier = Verifier(SECRET, capacity=3)
    tokens = [_token(1000 + number) for number in range(4)]
    for token in (*tokens[:3], tokens[0], tokens[3]):
        verifier.verify(token, 0)
    assert len(verifier) == 3
    assert tokens[0] in verifier._verified
    assert tokens[1] not in verifier._verified
    _refusal(verifier, bytes(TOKEN_LENGTH))
    assert len(verifier) == 3


def test_ids_of_another_length_are_not_signed() -> None:
    """A wrong length is a mistake in our own code, found where it is made."""
    with pytest.raises(ValueError, match="16 bytes"):
        _token(user=b"short")


def test_a_service_signs_for_itself() -> None:
    """A service's own token has its role, no user and an hour to live."""
    token = service_principal("wallet-service-1", SECRET, 5_000_000)
    found = Verifier(SECRET).verify(token, 5_000_000)
    assert (found.role, found.user_id, found.expires_at_us) == (Role.SERVICE, None, 3_605_000_000)


def _requirement(caller: Principal | None, *roles: Role) -> str:
    """The reason that `require_role` or (without roles) `require_user` refuses with, or OK."""
    reset = principal.current.set(caller)
    try:
        if roles:
            principal.require_role(sentinel.context, *roles)
        else:
            principal.require_user(sentinel.context)
    except ServiceError as error:
        return error.reason
    finally:
        principal.current.reset(reset)
    return "OK"


@pytest.mark.parametrize(
    ("caller", "roles", "expected"),
    [
        (None, (), "PRINCIPAL_MISSING"),
        (None, (Role.SERVICE,), "PRINCIPAL_MISSING"),
        (Principal(USER, Role.BETTOR, SESSION, 1), (), "OK"),
        (Principal(None, Role.SERVICE, SESSION, 1), (), "USER_REQUIRED"),
        (Principal(USER, Role.BETTOR, SESSION, 1), (Role.SERVICE, Role.OPERATOR), "ROLE_REQUIRED"),
        (Principal(None, Role.SERVICE, SESSION, 1), (Role.SERVICE, Role.OPERATOR), "OK"),
    ],
)
def test_who_may_call(caller: Principal | None, roles: tuple[Role, ...], expected: str) -> None:
    """Absent is UNAUTHENTICATED; present but wrong is PERMISSION_DENIED."""
    assert _requirement(caller, *roles) == expected
