"""Run what docker-compose.yml describes without a container engine, and place a bet: called by image_check.py.

Every service has a network namespace with an address on one bridge, and /etc/hosts instead of DNS. Order, environments
and health checks are those of the file; volumes, restarts and limits are left to Docker.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import yaml
from image import ENDS_WITH_US

FOLDER = Path(__file__).resolve().parents[1] / "infrastructure" / "docker"
BRIDGE = "compose-check"
NETWORK = "10.98.0"
HEALTHY_WITHIN_S = 300.0
POLL_S = 1.0
GATEWAY = "api-gateway"
# As in the README: registers, deposits play money, and bets on the next match.
_BETTOR = """
import json, secrets, sys, time, urllib.request
from betting.runtime.ids import new_uuid7

def call(method, token="", **message):
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
    request = urllib.request.Request(f"http://{sys.argv[1]}/betting.v1.{method}", json.dumps(message).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.load(reply)

email = f"{secrets.token_hex(8)}@example.com"
account = call("UserService/Register", email=email, password="correct horse battery", displayName="Ada")
token = account["tokens"]["accessToken"]
call("WalletService/Deposit", token, requestKey=str(new_uuid7()), currency="GBP", amountMinor=5000)
for _ in range(120):
    events = call("EventService/ListEvents", status="EVENT_STATUS_SCHEDULED", pageSize=1).get("events")
    if events:
        break
    time.sleep(1)
market = events[0]["markets"][0]["marketId"]
price = call("OddsService/GetPrices", marketId=market)["prices"]["prices"][0]["price"]
legs = [{"marketId": market, "selectionId": 1, "price": price}]
key = str(new_uuid7())
print(json.dumps(call("BetService/PlaceBet", token, requestKey=key, currency="GBP", stakeMinor=1000, legs=legs)))
print(json.dumps(call("WalletService/GetBalance", token, currency="GBP")))
"""


class Program(Protocol):
    """A container of image_check.py."""

    has_ended: bool

    def start(self, *, network: str, hosts: str, **environment: str) -> None: ...

    def passes(self, probe: list[str]) -> bool: ...

    def output(self) -> str: ...

    def wait(self) -> int: ...


def check(container: Callable[[str], AbstractContextManager[Any]], say: Callable[[str], None]) -> None:
    """Starts every service of the file and places a bet. Raises AssertionError with what a service printed."""
    services = _services()
    addresses = {name: f"{NETWORK}.{number}" for number, name in enumerate(services, start=10)}
    hosts = "".join(f"{address} {name}\n" for name, address in {"localhost": "127.0.0.1", **addresses}.items())
    began_s = time.monotonic()
    with _network(list(addresses.values())), ExitStack() as running:
        started: dict[str, Program] = {}
        waiting = dict(services)
        while waiting:
            ready = [name for name, each in waiting.items() if waiting.keys().isdisjoint(each.get("depends_on", {}))]
            assert ready, f"{', '.join(waiting)} wait for each other"
            for name in ready:
                started[name] = running.enter_context(container(services[name]["build"]["target"]))
                network = _namespace(addresses[name])
                started[name].start(network=network, hosts=hosts, **services[name]["environment"])
            for name in ready:
                _until_healthy(name, started[name], waiting.pop(name))
                say(f"compose: {name} after {time.monotonic() - began_s:.0f} s")
        bettor = [*ENDS_WITH_US, "nsenter", f"--net=/run/netns/{BRIDGE}", sys.executable, "-c", _BETTOR]
        reply = subprocess.run([*bettor, f"{addresses[GATEWAY]}:8080"], stdout=subprocess.PIPE, text=True, check=False)
        assert reply.returncode == 0, started[GATEWAY].output()
        bet, balance = reply.stdout.splitlines()
        assert "betId" in bet, bet
        say(f"compose: a bet after {time.monotonic() - began_s:.0f} s: {balance}")


def _services() -> dict[str, Any]:
    """The services of the file, with secrets made as documented."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "secrets.sh"
        script.write_bytes((FOLDER / "secrets.sh").read_bytes())
        subprocess.run(["sh", str(script)], check=True, stdout=subprocess.DEVNULL)
        secrets = dict(line.split("=", 1) for line in (Path(folder) / ".env").read_text("ascii").splitlines())
    text = (FOLDER / "docker-compose.yml").read_text("utf-8")
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: secrets[found[1]], text)
    services: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))["services"]
    return services


def _until_healthy(name: str, program: Program, service: dict[str, Any]) -> None:
    """Until its health check passes, or, without one, until it has ended as it should."""
    if "healthcheck" not in service:
        assert program.wait() == 0, f"{name}: {program.output()}"
        return
    deadline_s = time.monotonic() + HEALTHY_WITHIN_S
    _, *probe = service["healthcheck"]["test"]
    while not program.passes(probe):
        assert not program.has_ended, f"{name}: {program.output()}"
        assert time.monotonic() < deadline_s, f"{name}: {program.output()}"
        time.sleep(POLL_S)


@contextmanager
def _network(addresses: list[str]) -> Iterator[None]:
    """A bridge in a namespace of its own, and a namespace for every address. All of it is gone afterwards.

    What a run that was killed left under these names is removed first.
    """
    with ExitStack() as made:
        _add_namespace(made, BRIDGE)
        _ip("-n", BRIDGE, "link", "add", "bridge", "type", "bridge")
        _ip("-n", BRIDGE, "address", "add", f"{NETWORK}.1/24", "dev", "bridge")
        _ip("-n", BRIDGE, "link", "set", "bridge", "up")
        for address in addresses:
            name = _namespace(address)
            _add_namespace(made, name)
            end = f"to{address.rpartition('.')[2]}"
            _ip("link", "add", end, "netns", BRIDGE, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("-n", BRIDGE, "link", "set", end, "master", "bridge", "up")
            _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
        yield


def _add_namespace(made: ExitStack, name: str) -> None:
    if Path("/run/netns", name).exists():
        _ip("netns", "delete", name)
    _ip("netns", "add", name)
    made.callback(_ip, "netns", "delete", name)
    _ip("-n", name, "link", "set", "lo", "up")


def _namespace(address: str) -> str:
    return f"{BRIDGE}-{address.rpartition('.')[2]}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
