"""user-service over gRPC: registering, logging in, bad input, limits."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import asyncpg
import grpc
import in_process
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from betting.runtime import context as request_context
from betting.runtime.errors import ServiceError
from betting.v1 import user_pb2

PASSWORD = "correct horse battery"


async def test_a_registered_user_is_signed_in(users: Any) -> None:
    """The access token verifies with the published key and names user, session and role."""
    registered = await users.register(" Ann@Example.COM ", name=" Ann  Lee ")
    keys = await users.keys()
    key = keys[jwt.get_unverified_header(registered.tokens.access_token)["kid"]]
    public_key = Ed25519PublicKey.from_public_bytes(key.public_key)
    claims = jwt.decode(registered.tokens.access_token, public_key, algorithms=["EdDSA"], issuer="betting")
    assert claims["sub"] == registered.user.user_id
    assert claims["role"] == "bettor"
    assert claims["exp"] - claims["iat"] == 600
    assert registered.tokens.access_expires_at_us == claims["exp"] * 1_000_000 < key.not_after_us
    profile = await users.profile(registered.tokens)
    assert (profile.email, profile.display_name) == ("ann@example.com", "Ann Lee")
    assert profile.user_id == registered.user.user_id
    assert uuid.UUID(profile.user_id).version == 7


async def test_neither_password_nor_refresh_token_is_stored(users: Any, sql: asyncpg.Connection) -> None:
    """A dump of the tables holds an argon2id hash and a SHA-256, and nothing to log in with."""
    registered = await users.register("ann@example.com")
    dump = ""
    for table in ("users", "sessions", "refresh_tokens", "signing_keys"):
        dump += str([dict(row) for row in await sql.fetch(f"SELECT * FROM users.{table}")])
    assert "$argon2id$" in dump
    assert PASSWORD not in dump
    assert registered.tokens.refresh_token not in dump


async def test_one_address_registers_once(users: Any) -> None:
    """Also when spelled differently, also when two register at the same moment; nobody's data is shown."""
    results = await asyncio.gather(
        *(users.register(email) for email in ("ann@example.com", "ANN@example.com", "ann@EXAMPLE.com")),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, ServiceError)]
    assert len(refused) == 2
    assert {(error.code, error.reason) for error in refused} == {(grpc.StatusCode.ALREADY_EXISTS, "EMAIL_TAKEN")}


@pytest.mark.parametrize(
    ("email", "password", "name", "reason"),
    [
        ("", PASSWORD, "Ann", "EMAIL_INVALID"),
        ("ann", PASSWORD, "Ann", "EMAIL_INVALID"),
        ("a" * 3_000_000, PASSWORD, "Ann", "EMAIL_INVALID"),
        ("ann@example.com", "short", "Ann", "PASSWORD_INVALID"),
        ("ann@example.com", "x" * 201, "Ann", "PASSWORD_INVALID"),
        ("ann@example.com", "x" * 3_000_000, "Ann", "PASSWORD_INVALID"),
        ("ann@example.com", PASSWORD, "", "DISPLAY_NAME_INVALID"),
        ("ann@example.com", PASSWORD, "x" * 61, "DISPLAY_NAME_INVALID"),
        ("ann@example.com", PASSWORD, "A\x00nn", "DISPLAY_NAME_INVALID"),
    ],
)
async def test_bad_registrations_are_refused(
    users: Any, sql: asyncpg.Connection, email: str, password: str, name: str, reason: str
) -> None:
    """With INVALID_ARGUMENT, a reason per field, and nothing written."""
    with pytest.raises(ServiceError) as refused:
        await users.register(email, password, name)
    assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert await sql.fetchval("SELECT count(*) FROM users.users") == 0


async def test_logging_in_opens_a_session_of_its_own(users: Any, session_id_of: Any) -> None:
    """The same user, another session; the address may be spelled as people do."""
    registered = await users.register("ann@example.com")
    logged_in = await users.login("Ann@Example.com")
    assert logged_in.user.user_id == registered.user.user_id
    assert session_id_of(logged_in.tokens) != session_id_of(registered.tokens)
    assert (await users.profile(logged_in.tokens)).email == "ann@example.com"


async def test_unknown_and_wrong_are_one_answer(users: Any) -> None:
    """Code, reason and message of a wrong password and of an unknown user are the same."""
    await users.register("ann@example.com")
    answers = []
    for email, password in (("ann@example.com", "wrong password"), ("bob@example.com", PASSWORD)):
        with pytest.raises(ServiceError) as refused:
            await users.login(email, password)
        answers.append((refused.value.code, refused.value.reason, refused.value.message))
    assert answers[0] == answers[1]
    assert answers[0][:2] == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_WRONG")


async def guess(users: Any, email: str, times: int, source: str, device_token: str = "") -> list[str]:
    """Wrong passwords from one network; the reasons they are refused with."""
    request_context.source.set(source)
    reasons = []
    for _ in range(times):
        with pytest.raises(ServiceError) as refused:
            await users.login(email, "wrong password", device_token)
        reasons.append(refused.value.reason)
    return reasons


HOME, CAFE, ATTACKER = "192.0.2.1", "198.51.100.7", "203.0.113.9"


async def test_wrong_passwords_from_elsewhere_do_not_lock_the_owner_out(users: Any) -> None:
    """The guesser's network is stopped, with the right password too; the owner logs in at home and anywhere else."""
    request_context.source.set(HOME)
    await users.register("ann@example.com")
    assert await guess(users, "ann@example.com", 11, ATTACKER) == ["CREDENTIALS_WRONG"] * 10 + ["LOGIN_RATE_LIMITED"]
    with pytest.raises(ServiceError) as stopped:
        await users.login("ann@example.com")
    assert (stopped.value.code, stopped.value.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LOGIN_RATE_LIMITED")
    assert "10 logins have failed" in stopped.value.message
    for place in (HOME, CAFE):
        request_context.source.set(place)
        assert (await users.login("ann@example.com")).user.email == "ann@example.com"


async def test_a_device_seen_before_logs_in_also_from_the_guessers_network(users: Any) -> None:
    """Its attempts are its own, in the same flat, cafe or NAT; its token is renewed and good for its account only."""
    request_context.source.set(HOME)
    laptop = (await users.register("ann@example.com")).device_token
    other = (await users.register("bob@example.com")).device_token
    await guess(users, "ann@example.com", 31, HOME)
    for not_hers in ("", other, laptop[:-1] + ("A" if laptop[-1] != "A" else "B"), "x" * 75, "é" * 75, "x" * 100_000):
        with pytest.raises(ServiceError, match="LOGIN_RATE_LIMITED"):
            await users.login("ann@example.com", PASSWORD, not_hers)
    again = await users.login("ann@example.com", PASSWORD, laptop)
    assert (await users.login("ann@example.com", PASSWORD, again.device_token)).user.email == "ann@example.com"


async def test_a_stolen_device_token_is_no_way_around_the_limit(start: Any) -> None:
    """It has as many attempts as a known network, whatever network it is used from, and renewing it gives no more."""
    async with start(login_failures_per_known_place=3) as users:
        request_context.source.set(HOME)
        stolen = (await users.register("ann@example.com")).device_token
        reasons = []
        for number in range(4):
            reasons += await guess(users, "ann@example.com", 1, f"203.0.113.{number}", stolen)
        assert reasons == ["CREDENTIALS_WRONG"] * 3 + ["LOGIN_RATE_LIMITED"]


async def test_guessing_from_many_networks_is_slowed_and_spares_known_places(start: Any) -> None:
    """All new networks share so many attempts at one account; networks and devices it knows are not among them."""
    async with start(login_failures_per_place=2, login_failures_per_account=5) as users:
        request_context.source.set(HOME)
        phone = (await users.register("ann@example.com")).device_token
        reasons = []
        for number in range(4):
            reasons += await guess(users, "ann@example.com", 2, f"203.0.113.{number}")
        assert reasons == ["CREDENTIALS_WRONG"] * 5 + ["LOGIN_RATE_LIMITED"] * 3
        request_context.source.set(CAFE)
        with pytest.raises(ServiceError, match="LOGIN_RATE_LIMITED"):
            await users.login("ann@example.com")
        assert (await users.login("ann@example.com", PASSWORD, phone)).user.email == "ann@example.com"
        assert (await users.login("ann@example.com")).user.email == "ann@example.com", "the cafe is known now"
        request_context.source.set(HOME)
        assert (await users.login("ann@example.com")).user.email == "ann@example.com"


async def test_one_network_cannot_use_up_what_all_new_networks_share(start: Any) -> None:
    """Attempts that its own limit refuses do not count for the account."""
    async with start(login_failures_per_place=2, login_failures_per_account=4) as users:
        request_context.source.set(HOME)
        await users.register("ann@example.com")
        await guess(users, "ann@example.com", 20, ATTACKER)
        request_context.source.set(CAFE)
        assert (await users.login("ann@example.com")).user.email == "ann@example.com"


async def test_a_success_forgets_the_failures(start: Any) -> None:
    """Two failures and a success, over and over, lock nobody out."""
    async with start(login_failures_per_place=3, login_failures_per_known_place=3) as users:
        request_context.source.set(HOME)
        await users.register("ann@example.com")
        for place in (HOME, HOME, CAFE, CAFE):
            await guess(users, "ann@example.com", 2, place)
            await users.login("ann@example.com")


async def test_failures_count_per_source_too(start: Any) -> None:
    """One network that tries many addresses is stopped, unknown addresses included; successes cost it nothing."""
    async with start(login_failures_per_source=3) as users:
        request_context.source.set("2001:db8::1")
        await users.register("ann@example.com")
        for number in range(3):
            await users.login("ann@example.com")
            with pytest.raises(ServiceError, match="CREDENTIALS_WRONG"):
                await users.login(f"nobody{number}@example.com")
        request_context.source.set("2001:db8::2")
        with pytest.raises(ServiceError, match="LOGIN_RATE_LIMITED"):
            await users.login("nobody@example.com")
        assert (await users.login("ann@example.com")).user.email == "ann@example.com", "known here"
        request_context.source.set(HOME)
        assert (await users.login("ann@example.com")).user.email == "ann@example.com"


async def test_a_burst_of_guesses_gets_no_more_than_the_limit(start: Any) -> None:
    """Of twenty guesses at one moment three are looked at: the counter counts before the password is checked."""
    async with start(login_failures_per_place=3, server_in_flight=20) as users:
        await users.register("ann@example.com")
        guesses = [users.login("ann@example.com", f"wrong password {number}") for number in range(20)]
        results = await asyncio.gather(*guesses, return_exceptions=True)
        reasons = [result.reason for result in results if isinstance(result, ServiceError)]
        assert sorted(reasons) == ["CREDENTIALS_WRONG"] * 3 + ["LOGIN_RATE_LIMITED"] * 17


async def test_impatient_registrations_keep_nobody_else_out(start: Any) -> None:
    """Sixty at once with a deadline of 105 ms, hashing slowly: people refresh and log in; no breaker opens."""
    async with start(argon2_time_cost=20, argon2_memory_kib=8_192) as users:
        tokens = (await users.register("ann@example.com")).tokens

        async def impatient(number: int) -> None:
            request = user_pb2.RegisterRequest(email=f"x{number}@example.com", password=PASSWORD, display_name="X")
            await users.target.call(users.stub.Register, request, idempotent=False, timeout_s=0.105)

        flood = [asyncio.ensure_future(impatient(number)) for number in range(60)]
        await users.refresh(tokens.refresh_token)
        await users.login("ann@example.com")
        assert sum(isinstance(each, ServiceError) for each in await asyncio.gather(*flood, return_exceptions=True)) > 40
        assert users.target.open_breakers() == 0
        seen = users.target.outcomes.statistics(time.monotonic())
        assert (seen.unanswered, seen.silent_s) == (0, 0.0)
        assert (await users.register("bob@example.com")).user.email == "bob@example.com"


async def test_limits_need_no_redis(start: Any, unused_tcp_port: int) -> None:
    """Without Redis people log in, and guessing is stopped all the same."""
    async with start(redis_url=f"redis://127.0.0.1:{unused_tcp_port}/0") as users:
        request_context.source.set(HOME)
        await users.register("ann@example.com")
        assert (await guess(users, "ann@example.com", 11, ATTACKER))[-1] == "LOGIN_RATE_LIMITED"
        request_context.source.set(HOME)
        await users.login("ann@example.com")


OPERATOR = {"operator_email": "op@example.com", "operator_password": "operate this now"}


async def test_the_operators_door_is_another_one(start: Any) -> None:
    """What is guessed at everybody's door costs nothing there, and the other way round; each has limits of its own."""
    async with start(**OPERATOR) as users:
        assert (await guess(users, "op@example.com", 11, HOME))[-1] == "LOGIN_RATE_LIMITED"
        signed_in = await users.operator_login("op@example.com", "operate this now")
        assert jwt.decode(signed_in.tokens.access_token, options={"verify_signature": False})["role"] == "operator"
        request_context.source.set(ATTACKER)
        for reason in ["CREDENTIALS_WRONG"] * 10 + ["LOGIN_RATE_LIMITED"]:
            with pytest.raises(ServiceError, match=reason):
                await users.operator_login("op@example.com", "wrong password")
        assert (await users.login("op@example.com", "operate this now")).user.email == "op@example.com"


async def test_no_bettor_comes_through_the_operators_door(start: Any) -> None:
    """The right password of a bettor is refused like a wrong one."""
    async with start(**OPERATOR) as users:
        await users.register("ann@example.com")
        answers = []
        for email, password in (("ann@example.com", PASSWORD), ("nobody@example.com", PASSWORD)):
            with pytest.raises(ServiceError) as refused:
                await users.operator_login(email, password)
            answers.append((refused.value.code, refused.value.reason, refused.value.message))
        assert answers[0] == answers[1]
        assert answers[0][1] == "CREDENTIALS_WRONG"


async def test_an_outdated_hash_is_renewed_at_login(start: Any, sql: asyncpg.Connection) -> None:
    """Raised costs reach users when they next log in, and the password stays the same."""
    async with start() as users:
        await users.register("ann@example.com")
    old_hash = await sql.fetchval("SELECT password_hash FROM users.users")
    async with start(argon2_time_cost=2) as users:
        await users.login("ann@example.com")
        new_hash = await sql.fetchval("SELECT password_hash FROM users.users")
        assert "t=1" in old_hash
        assert "t=2" in new_hash
        await users.login("ann@example.com")
        assert await sql.fetchval("SELECT password_hash FROM users.users") == new_hash


async def test_the_operator_of_the_settings_can_log_in(start: Any, session_id_of: Any) -> None:
    """With the role operator; starting again changes nothing, another password ends the old sessions."""
    operator = {"operator_email": "op@example.com", "operator_password": "operate this now"}
    async with start(**operator) as users:
        first = await users.login("op@example.com", "operate this now")
        assert jwt.decode(first.tokens.access_token, options={"verify_signature": False})["role"] == "operator"
    async with start(**operator) as users:
        assert (await users.profile(first.tokens)).email == "op@example.com"
    async with start(**(operator | {"operator_password": "another password"})) as users:
        with pytest.raises(ServiceError, match="SESSION_ENDED"):
            await users.profile(first.tokens)
        await users.login("op@example.com", "another password")
        with pytest.raises(ServiceError, match="CREDENTIALS_WRONG"):
            await users.login("op@example.com", "operate this now")


@pytest.mark.parametrize(
    "overrides",
    [
        {"operator_email": "ann@example.com", "operator_password": "operate this now"},
        {"operator_email": "op@example.com", "operator_password": "short"},
        {"operator_email": "op", "operator_password": "operate this now"},
    ],
)
async def test_an_operator_that_cannot_be_stops_the_start(users: Any, start: Any, overrides: dict[str, str]) -> None:
    """A bettor is never made an operator, and a weak password is not taken because it is in the settings."""
    await users.register("ann@example.com")
    with pytest.raises(Exception, match="BETTING_OPERATOR") as refused:
        async with start(**overrides):
            raise AssertionError("it must not start")
    assert "operate this now" not in str(refused.value)


async def test_calls_that_need_a_caller_say_so(users: Any) -> None:
    """GetProfile and Logout without a principal are UNAUTHENTICATED."""
    calls = (
        (users.stub.GetProfile, user_pb2.GetProfileRequest()),
        (users.stub.Logout, user_pb2.LogoutRequest(all_sessions=True)),
    )
    for method, request in calls:
        with pytest.raises(ServiceError) as refused:
            await users.target.call(method, request, idempotent=True)
        assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.UNAUTHENTICATED, "PRINCIPAL_MISSING")


async def test_a_caller_sees_only_their_own_session(users: Any) -> None:
    """A principal with somebody's user id and another session is refused, whether the session is cached or not."""
    ann = await users.register("ann@example.com")
    await users.profile(ann.tokens)  # in the cache now
    stranger = in_process.user_token(uuid.uuid4().bytes)
    with pytest.raises(ServiceError, match="SESSION_ENDED"):
        await users.target.call(
            users.stub.GetProfile, user_pb2.GetProfileRequest(), idempotent=True, principal=stranger
        )
