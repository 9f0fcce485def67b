"""Elections between real processes at a real API server, with faults: who acts when, and that never two do."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import leader_process
import psutil
import pytest
from cutting_proxy import CuttingProxy
from kube_api import KubeApi
from kubernetes.client import Configuration
from prometheus_client import REGISTRY

from betting_operator.kubernetes.candidate import DURATION_S, RENEW_DEADLINE_S
from betting_operator.kubernetes.client import Requests
from betting_operator.kubernetes.elector import LEASES, REQUEST_TIMEOUT_S, Elector, NotLeadingError, clock_s

ROOT = Path(__file__).resolve().parents[2]
LEASE = leader_process.LEASE
RIGHTS = [
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "verbs": ["get", "update"],
        "resourceNames": [LEASE],
    },
]
# How much later than it must a process may be seen to do something, on a busy machine.
SLACK_S = 0.7
# The budgets: from the fault to another one's first act.
KILLED_S = 8.0
RELEASED_S = 2.5


@dataclass(frozen=True)
class Line:
    """What a life of a process told of itself."""

    identity: str
    at_s: float
    what: str

    @property
    def name(self) -> str:
        return self.identity.partition("@")[0]


class Election:
    """Processes that take part in one election, and what they tell."""

    def __init__(self, folder: Path, namespace: str) -> None:
        self._folder = folder
        self._namespace = namespace
        self._record = folder / "record"
        self._record.touch()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, kubeconfig: Path) -> None:
        """A process of this name."""
        script = str(Path(leader_process.__file__))
        with self.log(name).open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, script, str(kubeconfig), self._namespace, name, str(self._record)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": f"{ROOT / 'services'}:{ROOT / 'operator'}"},
            )

    def log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def signal(self, name: str, number: signal.Signals) -> float:
        """When it was sent."""
        at_s = clock_s()
        self.processes[name].send_signal(number)
        return at_s

    def lines(self) -> list[Line]:
        """What all of them told, in the order of time."""
        parts = (line.split(" ", 2) for line in self._record.read_text("utf-8").splitlines())
        return sorted((Line(identity, float(at), what) for identity, at, what in parts), key=lambda line: line.at_s)

    def acts(self, *, after_s: float = 0.0, of: str | None = None) -> list[Line]:
        return [
            each
            for each in self.lines()
            if each.what == "act" and each.at_s > after_s and (of is None or each.name == of)
        ]

    async def acting(self, *, after_s: float = 0.0, of: str | None = None) -> Line:
        """The first act after that time, once there is one."""
        await until(lambda: self.acts(after_s=after_s, of=of) != [])
        return self.acts(after_s=after_s, of=of)[0]

    def assert_one_at_a_time(self) -> None:
        """Between the first act of a life and its last there is none of another."""
        acts = self.acts()
        changes = [later.identity for earlier, later in pairwise(acts) if earlier.identity != later.identity]
        lives = [acts[0].identity, *changes]
        assert len(lives) == len(set(lives)), lives

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


async def until(condition: Callable[[], bool]) -> None:
    """Polls; the test's own timeout ends it."""
    while not condition():  # noqa: ASYNC110  (other processes make it true)
        await asyncio.sleep(0.02)


@pytest.fixture
def election(tmp_path: Path, kube_api: KubeApi, namespace: str) -> Iterator[Election]:
    """Without processes; its Lease exists and is nobody's, as the chart makes it."""
    lease = {"apiVersion": LEASES.api_version, "kind": "Lease", "metadata": {"name": LEASE}}
    kube_api.request("POST", LEASES.path(namespace), lease)
    found = Election(tmp_path, namespace)
    yield found
    found.close()


@pytest.fixture
def kubeconfig(kube_api: KubeApi, namespace: str) -> Path:
    """With the rights that an elector needs, and no others."""
    return kube_api.service_account(namespace, "operator", RIGHTS)


async def two_of(election: Election, kubeconfig: Path) -> tuple[str, str]:
    """Starts two processes; the name of the one that leads, and of the other, once it stands by."""
    election.start("a", kubeconfig)
    election.start("b", kubeconfig)
    leader = (await election.acting()).name
    other = "b" if leader == "a" else "a"
    await until(lambda: b"standing by" in election.log(other).read_bytes())
    return leader, other


async def test_when_the_leader_is_killed_the_other_leads_within_eight_seconds(
    election: Election, kubeconfig: Path
) -> None:
    """kill -9: nothing is released, the Lease has to run out."""
    leader, other = await two_of(election, kubeconfig)
    killed_s = election.signal(leader, signal.SIGKILL)
    led = await election.acting(after_s=killed_s, of=other)
    assert led.at_s - killed_s < KILLED_S
    election.assert_one_at_a_time()


async def test_when_the_leader_stops_in_order_the_other_leads_at_once(
    election: Election, kubeconfig: Path, kube_api: KubeApi, namespace: str
) -> None:
    """SIGTERM: the Lease is released, after the last act. A standby that stops changes nothing."""
    leader, other = await two_of(election, kubeconfig)
    told_s = election.signal(leader, signal.SIGTERM)
    led = await election.acting(after_s=told_s, of=other)
    assert led.at_s - told_s < RELEASED_S
    assert election.processes[leader].wait() == 0
    election.start(leader, kubeconfig)
    await until(lambda: b"standing by" in election.log(leader).read_bytes())
    election.signal(leader, signal.SIGTERM)
    assert election.processes[leader].wait() == 0
    assert kube_api.request("GET", LEASES.path(namespace, LEASE))["spec"]["holderIdentity"] == led.identity
    election.assert_one_at_a_time()
    assert [line for line in election.lines() if line.what.startswith("lost")] == []


async def test_a_leader_that_was_stopped_past_its_lease_never_acts_again(election: Election, kubeconfig: Path) -> None:
    """SIGSTOP, another leads, SIGCONT: not one act more; its child is killed and the process begins a new life."""
    leader, other = await two_of(election, kubeconfig)
    await until(lambda: any("leads with child" in line.what for line in election.lines()))
    [child] = [line for line in election.lines() if "leads with child" in line.what]
    stopped_s = election.signal(leader, signal.SIGSTOP)
    await election.acting(after_s=stopped_s, of=other)
    continued_s = election.signal(leader, signal.SIGCONT)
    await until(lambda: any(line.what == "starts" and line.at_s > continued_s for line in election.lines()))
    assert election.acts(after_s=stopped_s + SLACK_S, of=leader) == []
    assert [line.what for line in election.lines() if line.what.startswith("lost")] in (
        ["lost no renewal succeeded for 4 s"],
        [f"lost {election.acts(of=other)[0].identity} holds the Lease"],
    )
    assert not psutil.pid_exists(int(child.what.rpartition(" ")[2]))
    election.assert_one_at_a_time()


@pytest.mark.parametrize("fault", ["refused", "hanging"])
async def test_without_an_api_server_the_leader_stops_in_time(
    election: Election, kubeconfig: Path, kube_api: KubeApi, fault: str
) -> None:
    """At the latest four seconds after it went; when it is back one of them leads."""
    await two_of(election, kubeconfig)
    gone_s = clock_s()
    if fault == "refused":
        kube_api.kill()
    else:
        kube_api.pause()
    await until(lambda: any(line.what.startswith("lost") for line in election.lines()))
    [lost] = [line for line in election.lines() if line.what.startswith("lost")]
    assert lost.what == "lost no renewal succeeded for 4 s"
    assert lost.at_s - gone_s < RENEW_DEADLINE_S + SLACK_S
    assert all(act.at_s - gone_s < RENEW_DEADLINE_S for act in election.acts())
    kube_api.recover()
    await election.acting(after_s=clock_s())
    election.assert_one_at_a_time()


async def test_a_slow_api_server_is_endured_until_it_is_too_slow(
    election: Election, kube_api: KubeApi, namespace: str
) -> None:
    """Answers after 0.3 s cost nothing; after 3 s nobody leads; when it is quick again one of them does."""
    async with CuttingProxy(f"https://127.0.0.1:{kube_api.port}") as proxy:
        kubeconfig = kube_api.service_account(namespace, "operator", RIGHTS, url=f"https://{proxy.address}")
        leader, _ = await two_of(election, kubeconfig)
        proxy.delay_s = 0.3
        slow_s = clock_s()
        await election.acting(after_s=slow_s + 2 * RENEW_DEADLINE_S)
        assert {act.name for act in election.acts(after_s=slow_s)} == {leader}
        proxy.delay_s = 3.0
        await until(lambda: any(line.what.startswith("lost") for line in election.lines()))
        proxy.delay_s = 0.0
        await election.acting(after_s=clock_s())
        election.assert_one_at_a_time()


async def test_a_lease_deleted_by_hand_never_makes_two_lead(
    election: Election, kubeconfig: Path, kube_api: KubeApi, namespace: str
) -> None:
    """Whoever creates it again; and a leader that is stopped meanwhile does not act when it is continued."""
    leader, other = await two_of(election, kubeconfig)
    kube_api.request("DELETE", LEASES.path(namespace, LEASE))
    deleted_s = clock_s()
    await election.acting(after_s=deleted_s + DURATION_S)
    leader = election.acts()[-1].name
    other = "b" if leader == "a" else "a"
    stopped_s = election.signal(leader, signal.SIGSTOP)
    kube_api.request("DELETE", LEASES.path(namespace, LEASE))
    await election.acting(after_s=stopped_s, of=other)
    election.signal(leader, signal.SIGCONT)
    await until(lambda: any(line.what.startswith("lost") and line.name == leader for line in election.lines()))
    election.assert_one_at_a_time()


async def test_a_stuck_main_loop_gives_the_lease_up(election: Election, kubeconfig: Path) -> None:
    """Its renewals go on, and it could act in other threads: it ends itself all the same, and the other leads."""
    leader, _ = await two_of(election, kubeconfig)
    await until(lambda: any("leads with child" in line.what for line in election.lines()))
    stuck_s = election.signal(leader, signal.SIGUSR1)
    led = await election.acting(after_s=stuck_s + leader_process.HEARTBEAT_MAX_S + SLACK_S)
    assert led.identity != election.acts()[0].identity
    [lost] = [line for line in election.lines() if line.what.startswith("lost")]
    assert lost.name == leader
    assert "the main loop was stuck for" in lost.what
    election.assert_one_at_a_time()


async def test_missing_rights_are_named_in_the_log(
    election: Election, kube_api: KubeApi, namespace: str, kubeconfig: Path
) -> None:
    """The verb, the resource, the group and the namespace; with the rights granted it leads without a restart."""
    election.start("a", kube_api.service_account(namespace, "operator", RIGHTS[:1]))
    missing = (
        f'cannot get resource \\"leases\\" in API group \\"coordination.k8s.io\\" in the namespace \\"{namespace}\\"'
    )
    await until(lambda: missing.encode() in election.log("a").read_bytes())
    kube_api.service_account(namespace, "operator", RIGHTS)
    await election.acting()
    assert b"lease not renewed or read: over" in election.log("a").read_bytes()


async def dribble(requests: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speaks HTTP as an API server with a released Lease; after so many requests an answer never ends."""
    for number in itertools.count(1):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(dict(re.findall(rb"(?m)^([\w-]+): (\S+)", head.lower())).get(b"content-length", b"0"))
        sent = json.loads(await reader.readexactly(length) or b"{}")
        body = json.dumps({"metadata": {"resourceVersion": str(number)}, "spec": sent.get("spec", {})}).encode()
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        if number <= requests:
            writer.write(answer)
            continue
        writer.write(b"HTTP/1.1 200 OK\r\n")
        try:
            while True:
                writer.write(b"x-more: 1\r\n")
                await asyncio.sleep(REQUEST_TIMEOUT_S / 4)
        finally:
            writer.transport.abort()


async def test_a_renewal_that_never_ends_does_not_keep_the_lease() -> None:
    """Each byte comes in time, so that no timeout of the request ends it: the watchdog looks only at the clock.

    The metric that an alert looks at tells both.
    """
    lost: asyncio.Future[tuple[str, float]] = asyncio.get_running_loop().create_future()

    def tell(why: str) -> None:
        lost.get_loop().call_soon_threadsafe(lost.set_result, (why, clock_s()))

    connections: list[asyncio.Task[None]] = []

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.ensure_future(dribble(2, reader, writer)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    plain = Configuration(host=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    elector = Elector(
        Requests(plain, timeout_s=REQUEST_TIMEOUT_S), namespace="any", name=LEASE, identity="me@1", on_lost=tell
    )
    elector.start()
    assert REGISTRY.get_sample_value("betting_operator_leading") == 0.0
    await elector.won()
    won_s = clock_s()
    assert REGISTRY.get_sample_value("betting_operator_leading") == 1.0
    beating = asyncio.ensure_future(elector.keep_beating())
    why, lost_s = await lost
    assert why == "no renewal succeeded for 4 s"
    assert lost_s - won_s < RENEW_DEADLINE_S + SLACK_S
    with pytest.raises(NotLeadingError, match="me@1 does not lead: no renewal succeeded"):
        elector.assert_leading()
    assert REGISTRY.get_sample_value("betting_operator_leading") == 0.0
    server.close()
    for task in (beating, *connections):
        task.cancel()
    await asyncio.gather(beating, *connections, return_exceptions=True)
    await asyncio.to_thread(elector.release)
