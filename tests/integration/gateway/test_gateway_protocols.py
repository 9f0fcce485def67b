"""The gateway over real sockets: every protocol gives the same answers, and no input brings it down."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import pytest
from frames import split_frames
from google.protobuf import message

from betting.gateway.protocols.encoding import decode_text, encode_frame, encode_text
from betting.v1 import bet_pb2, event_pb2, odds_pb2

WEB, TEXT, PROTO = "application/grpc-web+proto", "application/grpc-web-text", "application/proto"
CONNECT_PROTO, CONNECT_JSON = "application/connect+proto", "application/connect+json"
Bet = Callable[..., bet_pb2.PlaceBetRequest]


def web(body: bytes) -> tuple[bytes, dict[str, str]]:
    """Message and trailers of a gRPC-Web answer."""
    frames, rest = split_frames(body)
    assert rest == b""
    trailers = dict(line.split(": ", 1) for line in frames[-1][1].decode("ascii").split("\r\n") if line)
    return b"".join(payload for flags, payload in frames if flags == 0), trailers


async def test_the_same_call_in_every_protocol(gateway: Any) -> None:
    """gRPC-Web binary and text, Connect binary and JSON give the same sports."""
    empty = event_pb2.ListSportsRequest().SerializeToString()
    method = "EventService/ListSports"
    answers: list[message.Message] = []
    for content_type in (WEB, "application/grpc-web"):
        status, headers, body = await gateway.post(method, encode_frame(empty), content_type)
        payload, trailers = web(body)
        assert (status, headers["Content-Type"], trailers["grpc-status"]) == (200, content_type, "0")
        answers.append(event_pb2.ListSportsResponse.FromString(payload))
    _, _, body = await gateway.post(method, encode_text(encode_frame(empty)), TEXT)
    answers.append(event_pb2.ListSportsResponse.FromString(web(decode_text(body))[0]))
    status, headers, body = await gateway.post(method, empty, PROTO)
    assert (status, headers["Content-Type"]) == (200, PROTO)
    answers.append(event_pb2.ListSportsResponse.FromString(body))
    status, _, body = await gateway.post(method, b"{}", connect_protocol_version="1")
    assert json.loads(body) == {"sports": [{"sportId": "football", "name": "Fußball ⚽"}]}
    assert len(answers) == 4
    assert all(answer == answers[0] for answer in answers)


async def test_errors_of_services_keep_code_reason_and_message(gateway: Any) -> None:
    """What user-service says reaches the caller in each protocol's own form."""
    status, _, body = await gateway.post("UserService/Login", b'{"email": "a@b.c", "password": "wrong"}')
    error = json.loads(body)
    assert (status, error["code"]) == (401, "unauthenticated")
    assert error["details"][0]["debug"]["reason"] == "WRONG_PASSWORD"
    _, _, body = await gateway.post("EventService/GetEvent", encode_frame(b"\x08\x63"), WEB)
    _, trailers = web(body)
    assert trailers["grpc-status"] == "5"
    assert unquote(trailers["grpc-message"]) == "there is no event 99"
    assert b"EVENT_NOT_FOUND" in base64.b64decode(trailers["grpc-status-details-bin"] + "==")


async def test_an_unforeseen_error_of_a_service_stays_inside(gateway: Any) -> None:
    """The caller gets a correlation id, not the cause."""
    status, _, body = await gateway.post("EventService/GetEvent", b'{"eventId": 1}')
    assert (status, json.loads(body)["code"]) == (500, "internal")
    assert b"secret" not in body
    assert b"correlation id" in body


async def test_the_correlation_id_goes_all_the_way(gateway: Any) -> None:
    """The caller's id reaches the service and comes back; one that could break a log is replaced."""
    _, headers, _ = await gateway.post("EventService/ListSports", b"{}", x_correlation_id="my-id.7")
    assert headers["X-Correlation-Id"] == "my-id.7"
    assert gateway.world.correlations == ["my-id.7"]
    _, headers, _ = await gateway.post("EventService/ListSports", b"{}", x_correlation_id="a b\u00e4")
    assert headers["X-Correlation-Id"] == gateway.world.correlations[1] != "a b\u00e4"


@pytest.mark.parametrize(
    ("content_type", "header"), [("application/json", "connect_timeout_ms"), (WEB, "grpc_timeout")]
)
async def test_deadlines_end_calls(gateway: Any, content_type: str, header: str) -> None:
    """A service that never answers costs the caller no more than it allowed."""
    value = "150" if header == "connect_timeout_ms" else "150m"
    request = b'{"eventId": 2}' if header == "connect_timeout_ms" else encode_frame(b"\x08\x02")
    async with asyncio.timeout(10):
        status, _, body = await gateway.post("EventService/GetEvent", request, content_type, **{header: value})
    if header == "connect_timeout_ms":
        assert (status, json.loads(body)["code"]) == (504, "deadline_exceeded")
    else:
        assert web(body)[1]["grpc-status"] == "4"


async def test_streams_in_every_protocol(gateway: Any) -> None:
    """Three beats and a good end, framed as the protocol frames them."""
    request = odds_pb2.WatchPricesRequest().SerializeToString()
    method = "OddsService/WatchPrices"
    _, _, body = await gateway.post(method, encode_frame(request), WEB)
    frames, _ = split_frames(body)
    assert [odds_pb2.WatchPricesResponse.FromString(payload).sequence for _, payload in frames[:-1]] == [1, 2, 3]
    assert frames[-1] == (0x80, b"grpc-status: 0\r\n")
    _, _, text = await gateway.post(method, encode_text(encode_frame(request)), TEXT)
    assert decode_text(text) == body
    _, _, body = await gateway.post(method, encode_frame(b"{}"), CONNECT_JSON)
    frames, _ = split_frames(body)
    assert [json.loads(payload).get("sequence") for _, payload in frames] == ["1", "2", "3", None]
    assert frames[-1] == (2, b"{}")


async def test_a_stream_that_breaks_says_so_at_its_end(gateway: Any) -> None:
    """What came before the error is there, and the end names it."""
    request = odds_pb2.WatchPricesRequest(event_ids=[1]).SerializeToString()
    _, _, body = await gateway.post("OddsService/WatchPrices", encode_frame(request), WEB)
    frames, _ = split_frames(body)
    assert len(frames) == 4
    assert b"grpc-status: 14" in frames[-1][1]
    _, _, body = await gateway.post("OddsService/WatchPrices", encode_frame(request), CONNECT_PROTO)
    frames, _ = split_frames(body)
    assert json.loads(frames[-1][1])["error"]["details"][0]["debug"]["reason"] == "WATCH_LOST"


async def test_a_reader_that_leaves_ends_the_stream_behind(gateway: Any) -> None:
    """The gateway does not go on reading prices for nobody."""
    request = encode_frame(odds_pb2.WatchPricesRequest(event_ids=[2]).SerializeToString())
    url = f"http://{gateway.address}/betting.v1.OddsService/WatchPrices"
    async with gateway.session.post(url, data=request, headers={"Content-Type": WEB}) as answer:
        await answer.content.readany()
    async with asyncio.timeout(20):
        while not gateway.world.streams_ended:  # noqa: ASYNC110 - it ends in another process's time
            await asyncio.sleep(0.01)


async def test_draining_ends_streams_with_a_reason(start_gateway: Any) -> None:
    """A watcher learns that it should watch again, and the gateway stops at once."""
    request = encode_frame(odds_pb2.WatchPricesRequest(event_ids=[2]).SerializeToString())
    async with start_gateway() as gateway:
        answer = await gateway.session.post(
            f"http://{gateway.address}/betting.v1.OddsService/WatchPrices", data=request, headers={"Content-Type": WEB}
        )
        first = await answer.content.readany()
        reading = asyncio.ensure_future(answer.content.read())
        running = gateway
    del running
    async with asyncio.timeout(20):
        frames, _ = split_frames(first + await reading)
    assert b"grpc-status: 14" in frames[-1][1]


@pytest.mark.parametrize(
    ("path", "verb", "content_type", "status", "reason"),
    [
        ("/nothing", "POST", "application/json", 404, "METHOD_UNKNOWN"),
        ("/betting.v1.EventService/Nothing", "POST", "application/json", 404, "METHOD_UNKNOWN"),
        ("/betting.internal.v1.OwnerService/Execute", "POST", "application/json", 404, "METHOD_UNKNOWN"),
        ("/betting.v1.EventService/ListSports", "GET", "application/json", 405, "VERB"),
        ("/betting.v1.EventService/ListSports", "PUT", "application/json", 405, "VERB"),
        ("/betting.v1.EventService/ListSports", "POST", "text/html", 415, "CONTENT_TYPE"),
        ("/betting.v1.EventService/ListSports", "POST", CONNECT_JSON, 415, "CONTENT_TYPE"),
        ("/betting.v1.OddsService/WatchPrices", "POST", "application/json", 415, "CONTENT_TYPE"),
    ],
)
async def test_what_there_is_not(
    gateway: Any, path: str, verb: str, content_type: str, status: int, reason: str
) -> None:
    """Unknown paths, wrong verbs and foreign content types each get HTTP's own answer, with a reason."""
    url = f"http://{gateway.address}{path}"
    async with gateway.session.request(verb, url, data=b"{}", headers={"Content-Type": content_type}) as answer:
        error = json.loads(await answer.read())
    assert (answer.status, error["code"]) == (status, "unimplemented")
    assert error["details"][0]["debug"]["reason"] == reason


async def test_an_unknown_method_over_grpc_web_is_a_status(gateway: Any) -> None:
    """gRPC-Web clients read trailers, so that is where UNIMPLEMENTED is."""
    status, _, body = await gateway.post("EventService/Nothing", encode_frame(b""), WEB)
    assert (status, web(body)[1]["grpc-status"]) == (200, "12")


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (b"", WEB, "12"),
        (b"\x00\x00", WEB, "3"),
        (b"\x00\x00\x00\x00\x09abc", WEB, "3"),
        (b"\x01\x00\x00\x00\x00", WEB, "12"),
        (b"\x80\x00\x00\x00\x00", WEB, "3"),
        (encode_frame(b"") * 2, WEB, "12"),
        (encode_frame(b"\xff\xff"), WEB, "3"),
        (encode_frame(b"\x0a\x02\xff\xfe"), WEB, "3"),
        (b"!!!!", TEXT, "3"),
        (b"\xff\xfe{", "application/json", "invalid_argument"),
        (b'{"pageSize": "x"}', "application/json", "invalid_argument"),
        (b"[" * 50_000, "application/json", "invalid_argument"),
        (b"\x0a\x05a", PROTO, "invalid_argument"),
    ],
)
async def test_malformed_bodies(gateway: Any, body: bytes, content_type: str, code: str) -> None:
    """Whatever is sent, the caller learns what is wrong with it, and the next call works."""
    _, _, answer = await gateway.post("EventService/SearchEvents", body, content_type)
    if content_type == TEXT:
        answer = decode_text(answer)
    got = web(answer)[1]["grpc-status"] if "grpc-web" in content_type else json.loads(answer)["code"]
    assert got == code
    assert (await gateway.post("EventService/ListSports", b"{}"))[0] == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"connect_protocol_version": "2"}, "invalid_argument"),
        ({"connect_timeout_ms": "soon"}, "invalid_argument"),
        ({"content_encoding": "gzip"}, "unimplemented"),
    ],
)
async def test_malformed_headers(gateway: Any, headers: dict[str, str], code: str) -> None:
    """Versions, timeouts and encodings that cannot be meant are refused."""
    _, _, body = await gateway.post("EventService/ListSports", b"{}", **headers)
    assert json.loads(body)["code"] == code


async def test_bodies_have_a_limit(start_gateway: Any) -> None:
    """Announced or not, a body over the limit is refused and not read to its end."""
    async with start_gateway(request_bytes_max=2_000) as gateway:
        status, _, body = await gateway.post("EventService/ListSports", b"{" + b" " * 5_000 + b"}")
        assert (status, json.loads(body)["code"]) == (413, "resource_exhausted")

        async def chunks() -> Any:
            for _ in range(10):
                yield b" " * 500

        status, _, body = await gateway.post("EventService/ListSports", chunks())
        assert (status, json.loads(body)["details"][0]["debug"]["reason"]) == (413, "BODY_TOO_LARGE")
        _, _, body = await gateway.post("EventService/ListSports", encode_frame(b" " * 5_000), WEB)
        assert web(body)[1]["grpc-status"] == "8"


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused(gateway: Any, data: bytes) -> None:
    """TLS, smuggled lengths, broken chunks and endless headers end the connection, without a trace of our insides."""
    answer = await gateway.raw(data, half_close=True)
    assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.0 400", b"HTTP/1.1 431", b"")
    assert b"Traceback" not in answer
    assert (await gateway.post("EventService/ListSports", b"{}"))[0] == 200


@pytest.mark.parametrize(
    "begun",
    [
        b"POST /betting.v1.EventService/ListSports HTTP/1.1\r\nHost: x\r\nContent-Ty",
        b"POST /betting.v1.EventService/ListSports HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 50\r\n\r\n{",
        b"",
    ],
)
async def test_half_a_request_does_not_hold_a_connection(start_gateway: Any, begun: bytes) -> None:
    """A head or a body that does not come to its end is given up after the time allowed."""
    async with start_gateway(receive_timeout=0.3, keepalive_timeout=0.3) as gateway, asyncio.timeout(20):
        answer = await gateway.raw(begun)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")


async def test_cors(start_gateway: Any) -> None:
    """Browsers of allowed origins may call and read the status; others are not told anything."""
    async with start_gateway(cors_origins="https://good.example") as gateway:
        url = f"http://{gateway.address}/betting.v1.EventService/ListSports"
        asked = {"Origin": "https://good.example", "Access-Control-Request-Method": "POST"}
        async with gateway.session.options(url, headers=asked) as answer:
            assert answer.status == 204
            assert answer.headers["Access-Control-Allow-Origin"] == "https://good.example"
        _, headers, _ = await gateway.post("EventService/Nothing", b"{}", Origin="https://good.example")
        assert "grpc-status" in headers["Access-Control-Expose-Headers"]
        _, headers, _ = await gateway.post("EventService/ListSports", b"{}", Origin="https://bad.example")
        assert "Access-Control-Allow-Origin" not in headers


async def test_pages(gateway: Any) -> None:
    """The front page says what this is; the probes say alive and, once it is, ready."""
    async with asyncio.timeout(20):
        while True:
            async with gateway.session.get(f"http://{gateway.address}/readyz") as answer:
                if answer.status == 200:
                    break
            await asyncio.sleep(0.05)
    for path, word in (("/", "services"), ("/healthz", "alive"), ("/readyz", "ready")):
        async with gateway.session.get(f"http://{gateway.address}{path}") as answer:
            assert answer.status == 200
            assert word in await answer.text()
    async with gateway.session.head(f"http://{gateway.address}/") as answer:
        assert answer.status == 200


async def test_requests_are_answered_in_order_when_they_come_at_once(gateway: Any, bet: Bet) -> None:
    """Pipelined requests, on the fast path and off it, are answered one after another."""
    token = gateway.world.token()

    def place() -> bytes:
        body = encode_frame(bet().SerializeToString())
        return (
            b"POST /betting.v1.BetService/PlaceBet HTTP/1.1\r\nHost: x\r\nContent-Type: application/grpc-web\r\n"
            b"Authorization: Bearer " + bytes(token, "ascii") + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
        ) + body

    page = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    host, port = gateway.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(place())
    answer = await reader.readuntil(b"grpc-status: 0\r\n")
    writer.write(place())
    answer += await reader.readuntil(b"grpc-status: 0\r\n")  # this one came on the fast path
    writer.write(place() + place() + page + place() + last)
    answer += await reader.read()
    writer.close()
    assert answer.count(b"grpc-status: 0") == 5
    assert answer.rfind(b"grpc-status: 0") > answer.find(b"alive") > 0
    assert answer.find(b"services") > answer.rfind(b"grpc-status: 0")
    assert set(gateway.world.placed.values()) == {1}
