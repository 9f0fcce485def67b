"""Bets through the gateway: who may place them, how many, where they go, and that the fast path changes nothing."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
import redis.asyncio as redis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from frames import split_frames
from google.protobuf import json_format

from betting.gateway.protocols.encoding import encode_frame
from betting.gateway.revocations import STREAM
from betting.runtime.errors import ConfigurationError
from betting.v1 import bet_pb2, common_pb2

Bet = Callable[..., bet_pb2.PlaceBetRequest]
WEB = "application/grpc-web+proto"
PLACE = "BetService/PlaceBet"


def trailers(body: bytes) -> dict[str, str]:
    """The trailers of a gRPC-Web answer."""
    frames, _ = split_frames(body)
    return dict(line.split(": ", 1) for line in frames[-1][1].decode("ascii").split("\r\n") if line)


def reason(body: bytes) -> str:
    """The reason in a Connect error."""
    found: str = json.loads(body)["details"][0]["debug"]["reason"]
    return found


async def place(gateway: Any, request: bet_pb2.PlaceBetRequest, token: str, **headers: str) -> bet_pb2.PlaceBetResponse:
    """Places a bet over gRPC-Web."""
    frame = encode_frame(request.SerializeToString())
    _, _, body = await gateway.post(PLACE, frame, WEB, token, **headers)
    assert trailers(body)["grpc-status"] == "0", trailers(body)
    return bet_pb2.PlaceBetResponse.FromString(split_frames(body)[0][0][1])


async def test_a_bet_in_json(gateway: Any, bet: Bet) -> None:
    """What a person with curl sends and gets."""
    asked = bet()
    token = gateway.world.token()
    status, _, body = await gateway.post(PLACE, json_format.MessageToJson(asked).encode(), token=token)
    placed = json_format.Parse(body, bet_pb2.PlaceBetResponse()).bet
    assert status == 200
    assert (placed.request_key, placed.stake_minor, list(placed.legs)) == (asked.request_key, 500, list(asked.legs))


async def test_the_owner_gets_the_user_of_the_token(gateway: Any, bet: Bet) -> None:
    """The command carries a principal of the token's user, the correlation id and the request key."""
    user = uuid.uuid4()
    asked = bet()
    await place(gateway, asked, gateway.world.token(user), x_correlation_id="abc")
    (command,) = gateway.world.seen
    assert user.bytes in command.principal
    assert command.correlation_id == b"abc"
    assert command.request_key == uuid.UUID(asked.request_key).bytes


async def test_the_fast_lane_answers_like_the_long_way(gateway: Any, bet: Bet) -> None:
    """A repeated head is answered from its plan; accepted, refused, malformed and repeated bets look the same."""
    token = gateway.world.token()
    requests = [bet(), bet(13), bet(0)]
    for asked in requests:
        frame = encode_frame(asked.SerializeToString())
        answers = []
        for headers in ({}, {}, {"x_new_head": uuid.uuid4().hex}):
            _, sent, body = await gateway.post(PLACE, frame, WEB, token, **headers)
            assert sent["X-Correlation-Id"]
            assert sent["Date"]
            answers.append((sent["Content-Type"], sent["Server"], body))
        first, second, third = answers
        if asked.stake_minor == 500:
            assert bet_pb2.PlaceBetResponse.FromString(split_frames(second[2])[0][0][1]).repeated
            assert second == third
        else:
            assert first == second == third


async def test_many_bets_at_once(gateway: Any, bet: Bet) -> None:
    """Each is answered for itself, in order."""
    many = bet_pb2.PlaceBetsRequest(bets=[bet(13 if n % 3 == 0 else 500) for n in range(500)])
    _, _, body = await gateway.post(
        "BetService/PlaceBets", encode_frame(many.SerializeToString()), WEB, gateway.world.token()
    )
    results = bet_pb2.PlaceBetsResponse.FromString(split_frames(body)[0][0][1]).results
    assert [result.WhichOneof("outcome") for result in results] == [
        "refusal" if n % 3 == 0 else "bet" for n in range(500)
    ]
    assert [r.bet.request_key for r in results if r.HasField("bet")] == [
        b.request_key for b in many.bets if b.stake_minor == 500
    ]


async def test_what_is_wrong_with_one_bet_of_many_is_said_of_that_one(gateway: Any, bet: Bet) -> None:
    """As PlaceBet would say it, in its place; the others are placed."""
    many = bet_pb2.PlaceBetsRequest(bets=[bet(), bet(-1), bet(13), bet()])
    _, _, body = await gateway.post(
        "BetService/PlaceBets", encode_frame(many.SerializeToString()), WEB, gateway.world.token()
    )
    results = bet_pb2.PlaceBetsResponse.FromString(split_frames(body)[0][0][1]).results
    assert [result.WhichOneof("outcome") for result in results] == ["bet", "error", "refusal", "bet"]
    assert (results[1].error.code, results[1].error.reason) == ("INVALID_ARGUMENT", "STAKE_NOT_POSITIVE")
    assert "bets[1].stake_minor" in results[1].error.message


async def test_faults_of_the_owner_are_statuses(gateway: Any) -> None:
    """A bet that is not there is NOT_FOUND."""
    body = json.dumps({"betId": str(uuid.uuid4())}).encode()
    status, _, body = await gateway.post("BetService/GetBet", body, token=gateway.world.token())
    assert (status, reason(body)) == (404, "BET_NOT_FOUND")


async def test_malformed_bets_do_not_reach_the_owner(gateway: Any, bet: Bet) -> None:
    """The edge refuses them, with the field's name."""
    status, _, body = await gateway.post(
        PLACE, json_format.MessageToJson(bet(-1)).encode(), token=gateway.world.token()
    )
    assert (status, reason(body)) == (400, "STAKE_NOT_POSITIVE")
    assert gateway.world.seen == []


async def test_settled_bets_of_a_new_user_are_none(gateway: Any) -> None:
    """The read model answers, with an empty page."""
    status, _, body = await gateway.post(
        "BetService/ListSettledBets", b'{"currency": "GBP"}', token=gateway.world.token()
    )
    assert (status, json.loads(body)) == (200, {})


async def test_services_see_the_principal(gateway: Any) -> None:
    """Forwarded calls carry who asks; open methods need nobody."""
    user = uuid.uuid4()
    _, _, body = await gateway.post("UserService/GetProfile", b"{}", token=gateway.world.token(user))
    assert json.loads(body)["user"]["userId"] == str(user)
    _, _, body = await gateway.post("WalletService/GetBalance", b'{"currency":"EUR"}', token=gateway.world.token(user))
    assert json.loads(body)["balance"] == {"currency": "EUR", "cashMinor": "7"}
    status, _, _ = await gateway.post(
        "HealthMonitorService/GetPlatformStatus", b"{}", token=gateway.world.token(role="operator")
    )
    assert status == 503


async def test_operators_only(gateway: Any) -> None:
    """Settling is not for bettors: the refusal names the call that operators log in with."""
    method = "SettlementService/ListPendingSettlements"
    status, _, body = await gateway.post(method, b"{}", token=gateway.world.token())
    assert (status, reason(body)) == (403, "ROLE_REQUIRED")
    assert "betting.v1.UserService/OperatorLogin" in json.loads(body)["message"]
    status, _, _ = await gateway.post(method, b"{}", token=gateway.world.token(role="operator"))
    assert status == 200


async def test_tokens_that_open_nothing(gateway: Any) -> None:
    """Missing, expired, forged, unsigned and foreign tokens are told apart and all refused."""
    world = gateway.world
    cases = {
        "": "TOKEN_MISSING",
        world.token(exp=int(time.time()) - 1): "TOKEN_EXPIRED",
        world.token(key=Ed25519PrivateKey.generate()): "TOKEN_FORGED",
        world.token(kid="k9"): "KEY_UNKNOWN",
        "eyJhbGciOiJub25lIiwia2lkIjoiazEifQ.eyJzdWIiOiJ4In0.": "TOKEN_MALFORMED",
        "abc": "TOKEN_MALFORMED",
    }
    for token, expected in cases.items():
        status, _, body = await gateway.post("UserService/GetProfile", b"{}", token=token)
        assert (status, reason(body)) == (401, expected)


async def test_a_token_ends_on_the_fast_lane_too(start_gateway: Any, bet: Bet) -> None:
    """A cached token is not accepted a moment longer than it says."""
    async with start_gateway(money_per_user_burst=1e6) as gateway:
        token = gateway.world.token(exp=int(time.time()) + 2)
        async with asyncio.timeout(10):
            while True:
                _, _, body = await gateway.post(PLACE, encode_frame(bet().SerializeToString()), WEB, token)
                if trailers(body)["grpc-status"] != "0":
                    break
    assert trailers(body)["grpc-status"] == "16"
    assert trailers(body)["grpc-message"].startswith("the access token has ended")


async def test_a_revoked_session_is_out(gateway: Any, bet: Bet, valkey: Any) -> None:
    """What user-service writes into the stream ends cached tokens, on the fast path and off it, and new ones."""
    session = uuid.uuid4()
    token = gateway.world.token(sid=str(session))
    for _ in range(3):
        await place(gateway, bet(), token)
    client = redis.Redis.from_url(valkey.url)
    await client.xadd(STREAM, {"sid": "nonsense"})
    await client.xadd(STREAM, {"sid": str(session), "exp_us": time.time_ns() // 1000 + 600_000_000})
    await client.aclose()
    async with asyncio.timeout(20):
        while True:
            _, _, body = await gateway.post(PLACE, encode_frame(bet().SerializeToString()), WEB, token)
            if trailers(body)["grpc-status"] == "16":
                break
    status, _, body = await gateway.post("UserService/GetProfile", b"{}", token=gateway.world.token(sid=str(session)))
    assert (status, reason(body)) == (401, "SESSION_ENDED")


async def test_money_is_limited_per_user(start_gateway: Any, bet: Bet) -> None:
    """Over the limit a bet is refused before anything is done, and the caller learns when to come back."""
    async with start_gateway(money_per_user_s=0.5, money_per_user_burst=3) as gateway:
        token = gateway.world.token()
        for _ in range(3):
            await place(gateway, bet(), token)
        frame = encode_frame(bet().SerializeToString())
        _, headers, body = await gateway.post(PLACE, frame, WEB, token)
        assert trailers(body)["grpc-status"] == "8"
        assert 1 <= int(headers["Retry-After"]) <= 2
        status, headers, body = await gateway.post(PLACE, json_format.MessageToJson(bet()).encode(), token=token)
        assert (status, reason(body)) == (429, "RATE_LIMITED")
        assert len(gateway.world.placed) == 3
        await place(gateway, bet(), gateway.world.token())  # somebody else is not concerned


async def test_sign_ins_and_addresses_are_limited(start_gateway: Any) -> None:
    """Guessing passwords is slow, and one address cannot take everything."""
    async with start_gateway(sign_ins_per_address_s=0.1, sign_ins_per_address_burst=2, trusted_proxies=1) as gateway:
        login = b'{"email": "a@b.c", "password": "guess"}'
        statuses = [(await gateway.post("UserService/Login", login, X_Forwarded_For="9.9.9.9"))[0] for _ in range(3)]
        assert statuses == [401, 401, 429]
        assert (await gateway.post("UserService/Login", login, X_Forwarded_For="8.8.8.8"))[0] == 401
    async with start_gateway(requests_per_address_s=0.1, requests_per_address_burst=2) as gateway:
        statuses = [(await gateway.post("EventService/ListSports", b"{}"))[0] for _ in range(3)]
        assert statuses == [200, 200, 429]


async def test_services_learn_where_a_request_came_from(start_gateway: Any) -> None:
    """What failed log-ins count against: the peer, or what our own proxy saw; never what the caller says of itself."""
    login = b'{"email": "a@b.c", "password": "guess"}'
    async with start_gateway() as gateway:
        told = {"X_Forwarded_For": "9.9.9.9", "x_betting_source": "9.9.9.9"}
        await gateway.post("UserService/Login", login, **told)
    assert gateway.world.sources == ["127.0.0.1"]
    async with start_gateway(trusted_proxies=1) as gateway:
        for seen in ("6.6.6.6, 9.9.9.9", "2001:db8::1", "", "no\u00e4ddress"):
            await gateway.post("UserService/Login", login, X_Forwarded_For=seen)
    assert gateway.world.sources[1:] == ["9.9.9.9", "2001:db8::1", "127.0.0.1", "127.0.0.1"]


async def test_gateways_share_their_limits(start_gateway: Any, bet: Bet) -> None:
    """What one gateway let through counts at the other, soon after."""
    limits: dict[str, Any] = {"money_per_user_s": 0.1, "money_per_user_burst": 40, "limits_sync_interval": 0.05}
    async with start_gateway(**limits) as one, start_gateway(instance="gateway-2", **limits) as other:
        token = one.world.token()
        for _ in range(4):  # both learn the counter, then one takes nearly all
            await place(other, bet(), token)
            await place(one, bet(), token)
        await asyncio.sleep(0.2)
        for _ in range(32):
            await place(one, bet(), token)
        async with asyncio.timeout(20):
            while True:
                _, _, body = await other.post(PLACE, encode_frame(bet().SerializeToString()), WEB, token)
                if trailers(body)["grpc-status"] == "8":
                    break
                await asyncio.sleep(0.05)
        assert len(one.world.placed) < 70


async def test_a_moved_shard_is_found_by_its_notification(gateway: Any, bet: Bet, database: Any) -> None:
    """While the shard changes hands the bettor waits; the write to the directory itself wakes the gateway."""
    gateway.world.refuse_as_not_owner = True
    token = gateway.world.token()
    waiting = asyncio.ensure_future(place(gateway, bet(), token))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    gateway.world.refuse_as_not_owner = False
    connection = await asyncpg.connect(database.dsn)
    await connection.execute("UPDATE betting.shards SET epoch = epoch + 1")
    await connection.close()
    async with asyncio.timeout(10):
        assert (await waiting).HasField("bet")


async def test_a_deadline_ends_the_wait_and_says_what_is_known(gateway: Any, bet: Bet) -> None:
    """An owner that hangs leaves the outcome open, and the answer says so; the same key then finds it."""
    gateway.world.hang = asyncio.Event()
    token, asked = gateway.world.token(), bet()
    _, _, body = await gateway.post(PLACE, encode_frame(asked.SerializeToString()), WEB, token, grpc_timeout="1S")
    assert trailers(body)["grpc-status"] == "4"
    assert "may have been carried out" in trailers(body)["grpc-message"]
    gateway.world.hang.set()
    assert (await place(gateway, asked, token)).HasField("bet")
    assert set(gateway.world.placed.values()) <= {1, 2}


async def test_redis_away_changes_nothing_for_bettors(start_gateway: Any, bet: Bet) -> None:
    """Without Redis bets are placed and the local limit holds."""
    async with start_gateway(
        redis_url="redis://127.0.0.1:1/0", money_per_user_s=0.1, money_per_user_burst=3
    ) as gateway:
        token = gateway.world.token()
        for _ in range(3):
            await place(gateway, bet(), token)
        _, _, body = await gateway.post(PLACE, encode_frame(bet().SerializeToString()), WEB, token)
        assert trailers(body)["grpc-status"] == "8"


async def test_a_redis_that_takes_no_writes_changes_nothing_for_bettors(
    start_gateway: Any, bet: Bet, valkey: Any
) -> None:
    """Two of three Redis nodes are away: bets are placed and the local limit holds."""
    async with redis.Redis.from_url(valkey.url) as client:
        await client.config_set("min-replicas-to-write", 1)
        try:
            async with start_gateway(money_per_user_s=0.1, money_per_user_burst=3) as gateway:
                token = gateway.world.token()
                for _ in range(3):
                    await place(gateway, bet(), token)
                _, _, body = await gateway.post(PLACE, encode_frame(bet().SerializeToString()), WEB, token)
                assert trailers(body)["grpc-status"] == "8"
        finally:
            await client.config_set("min-replicas-to-write", 0)


async def test_a_drain_finishes_what_was_begun(start_gateway: Any, bet: Bet) -> None:
    """A bet under way when the gateway is told to stop is answered."""
    async with start_gateway() as gateway:
        token = gateway.world.token()
        await place(gateway, bet(), token)
        gateway.world.hang = asyncio.Event()
        waiting = asyncio.ensure_future(place(gateway, bet(), token))
        await asyncio.sleep(0.1)
        asyncio.get_running_loop().call_later(0.3, gateway.world.hang.set)
    assert waiting.done()
    assert (await waiting).HasField("bet")


@pytest.mark.parametrize("size", [0, 501])
async def test_batches_have_bounds(gateway: Any, bet: Bet, size: int) -> None:
    """Neither none nor more than five hundred."""
    many = bet_pb2.PlaceBetsRequest(bets=[bet()] * size)
    _, _, body = await gateway.post(
        "BetService/PlaceBets", encode_frame(many.SerializeToString()), WEB, gateway.world.token()
    )
    assert trailers(body)["grpc-status"] == "3"


async def test_a_refusal_is_an_answer(gateway: Any, bet: Bet) -> None:
    """Insufficient funds is no error of transport: the reply carries the code."""
    reply = await place(gateway, bet(13), gateway.world.token())
    assert reply.refusal.code == common_pb2.REFUSAL_CODE_INSUFFICIENT_FUNDS


async def test_another_number_of_shards_is_a_configuration_error(start_gateway: Any, database: Any) -> None:
    """A gateway that would look for users in the wrong shards does not start."""
    connection = await asyncpg.connect(database.dsn)
    await connection.execute("INSERT INTO betting.install (shard_count) VALUES (8)")
    await connection.close()
    with pytest.raises(ConfigurationError, match="installed with 8"):
        async with start_gateway():
            raise AssertionError("it must not start")
