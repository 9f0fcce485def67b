"""The operator process: waits for the Lease, then reconciles and runs the healer until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import prometheus_client
from aiohttp import web

from betting.life import Life
from betting.release import version
from betting.runtime import ids, logs, metrics
from betting.runtime.errors import ConfigurationError
from betting.runtime.loops import FailureLog, woken_within
from betting.runtime.names import Loop
from betting.runtime.service import EXIT_FAILED
from betting.runtime.settings import EXIT_CONFIGURATION
from betting_operator.kubernetes import databases, healing_report, settings, status
from betting_operator.kubernetes.client import Client, KubernetesError, NotFoundError, Requests, configuration
from betting_operator.kubernetes.drilling import Driller
from betting_operator.kubernetes.elector import LEASE, REQUEST_TIMEOUT_S, Elector, NotLeadingError, reexecute
from betting_operator.kubernetes.healer_process import HealerProcess
from betting_operator.kubernetes.kinds import PLATFORMS, PODS
from betting_operator.kubernetes.manifests import (
    INTERNAL_SECRET,
    LEADER_LABEL,
    MANAGED_BY_LABEL,
    NAME_LABEL,
    Manifest,
)
from betting_operator.kubernetes.names import Names
from betting_operator.kubernetes.rebalancing import Rebalancer, Told
from betting_operator.kubernetes.reconcile import KINDS, Key
from betting_operator.kubernetes.reconciler import Heal, Reconciler
from betting_operator.kubernetes.spec import Platform
from betting_operator.kubernetes.watching import Watched, Watching
from betting_operator.kubernetes.workloads import GRPC_PORT, HEALTH_PORT, METRICS_PORT, OPERATOR

LOOK_S = 2.0
# Changes come in groups: those that follow one within this time are in the same round.
GATHER_S = 0.2
# A list takes well under a second. What is not listed after so long is said in the platform's status.
LISTED_WITHIN_S = 15.0
# How often the leader looks whether its pod alone has the label of the leader.
LABEL_LOOK_S = 30.0
FLIGHT_FOLDER = "/tmp/flight"  # noqa: S108  (an emptyDir of the pod)
REPORT_FILE = Path(FLIGHT_FOLDER).parent / healing_report.FILE

_log = logs.get(__name__)


def main() -> NoReturn:
    """Runs until SIGTERM. Exit codes: 0 stopped, 1 an error that the log has, 2 configuration."""
    try:
        configured = settings.load()
    except ConfigurationError as error:
        print(f"betting-operator: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_CONFIGURATION)
    boot_id = ids.new_boot_id()
    logs.configure(workload=OPERATOR, instance=configured.pod, boot_id=boot_id, level=configured.log_level)
    with asyncio.Runner(loop_factory=Loop) as runner:
        sys.exit(runner.run(_live(configured, boot_id)))


async def _live(configured: settings.OperatorSettings, boot_id: str) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    _log.info("operator started", version=version(), namespace=configured.namespace)
    with contextlib.suppress(OSError):
        REPORT_FILE.unlink()  # of the process before: it is in the status already
    healer = HealerProcess(signs=REPORT_FILE)
    cluster = configuration()
    elector = Elector(
        Requests(cluster, timeout_s=REQUEST_TIMEOUT_S),
        namespace=configured.namespace,
        name=LEASE,
        identity=str(Life(OPERATOR, configured.pod, boot_id)),
        on_lost=lambda _why: reexecute(healer.pids()),
    )
    async with Client(cluster, before_write=elector.assert_leading) as client, _Http(configured.http_port):
        elector.start()
        beating = asyncio.create_task(elector.keep_beating())  # also while what acts as leader is being stopped
        heals = asyncio.create_task(healer.run())  # it is ready before this process leads
        lead = asyncio.create_task(_lead(client, configured, elector, healer))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait((lead, heals, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        lead.cancel()
        heals.cancel()
        ended = await asyncio.gather(lead, heals, return_exceptions=True)
        beating.cancel()
        await asyncio.to_thread(elector.release)
    for each in ended:
        if isinstance(each, Exception):
            _log.critical("stopped by an error", exc_info=each)
            return EXIT_FAILED
    _log.info("operator stopped")
    return 0


async def _lead(client: Client, configured: settings.OperatorSettings, elector: Elector, healer: HealerProcess) -> None:
    """Waits until this process leads, then acts for as long as it does: losing the Lease ends the process."""
    await elector.won()
    wake = asyncio.Event()
    selector = f"{MANAGED_BY_LABEL}={OPERATOR}"
    deployments = KINDS["Deployment"]  # who has set replicas, the autoscaler or we, is in managedFields
    watched = [Watched(PLATFORMS), Watched(deployments, selector, with_managers=True)]
    watched += [Watched(each, selector) for each in (*KINDS.values(), PODS) if each != deployments]
    watching = Watching(client, configuration, configured.namespace, watched, lambda _key: wake.set())
    rebalancer = Rebalancer(client, configured.namespace)
    heal = healing(configured, healer, rebalancer.told)
    reconciler = Reconciler(client, configured.namespace, configured.own_image(), heal=heal, unresolved=Names().problem)
    driller = Driller(
        *(client, configured.namespace, elector.identity, configured.pod),
        rebalancing=lambda: rebalancer.is_moving,
        healer_tells=lambda: report_of(healer) is not None,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(watching.run())
        group.create_task(_keep_labelled(client, configured))
        group.create_task(rebalancer.run())
        group.create_task(driller.run(watching))
        group.create_task(_reconcile(watching, wake, reconciler))


async def _keep_labelled(client: Client, configured: settings.OperatorSettings) -> None:
    """For as long as this process leads: somebody may remove the label, or a leader of before set it late."""
    failures = FailureLog(_log, "leader not labelled")
    while True:
        pause_s = LABEL_LOOK_S
        try:
            await label_leader(client, configured.namespace, configured.pod)
            failures.worked()
        except (KubernetesError, NotLeadingError) as error:  # the elector ends the process where it lost the Lease
            failures.failed(error)
            pause_s = LOOK_S
        await asyncio.sleep(pause_s)


async def label_leader(client: Client, namespace: str, pod: str) -> None:
    """Gives this pod the label of the leader, after every other has lost it: the healer's Service selects by it.

    Raises KubernetesError; NotFoundError when there is no such pod.
    """
    selector = f"{NAME_LABEL}={OPERATOR},{LEADER_LABEL}"
    is_labelled = False
    for each in (await client.list(PODS, namespace, selector)).objects:
        name = each["metadata"]["name"]
        if name == pod:
            is_labelled = each["metadata"]["labels"][LEADER_LABEL] == "true"
            continue
        with contextlib.suppress(NotFoundError):  # it has ended meanwhile
            await client.patch(PODS, namespace, name, {"metadata": {"labels": {LEADER_LABEL: None}}})
            _log.info("label of the leader removed", pod=name)
    if not is_labelled:
        await client.patch(PODS, namespace, pod, {"metadata": {"labels": {LEADER_LABEL: "true"}}})
        _log.info("labelled as leader", pod=pod)


def healing(configured: settings.OperatorSettings, healer: HealerProcess, tell: Callable[[Told], None]) -> Heal:
    """What the reconciler calls with each platform that it finds: the healer runs while that one wants it, and
    rebalances are told which one it is (`tell`)."""

    def heal(platform: Platform | None, objects: Mapping[Key, Manifest]) -> status.Healer:
        environment = None if platform is None else healer_environment(configured, platform, objects)
        if platform is None or not platform.healing.enabled:
            healer.want(None)
        elif environment is not None:
            healer.want(environment, platform.healing.policy)
        tell(_told(platform, environment))
        return replace(healer.state(), report=report_of(healer))

    return heal


def report_of(healer: HealerProcess, file: Path = REPORT_FILE) -> healing_report.Report | None:
    """What the healer that runs has written, None while it has not."""
    if not healer.running:
        return None
    try:
        return healing_report.parse(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return None


def _told(platform: Platform | None, environment: Mapping[str, str] | None) -> Told:
    if platform is None:
        return Told()
    dsn = environment["BETTING_POSTGRES_DSN"] if environment is not None else ""
    return Told(platform.name, platform.uid, dsn, heals=platform.healing.enabled, policy=platform.healing.policy)


async def _reconcile(watching: Watching, wake: asyncio.Event, reconciler: Reconciler) -> None:
    """After every change, and every few seconds all the same: what the database says has no events.

    Nothing is made anew while a kind is not listed, or not installed: what is not known may exist.
    """
    failures = FailureLog(_log, "reconciliation failed")
    rounds = metrics.latencies("betting_operator_round_seconds", "Duration of one round of reconciliation", ()).series()
    while True:
        try:
            async with asyncio.timeout(LISTED_WITHIN_S):
                await watching.listed()
        except TimeoutError:
            await _say_unlisted(watching, reconciler)
            continue
        wake.clear()
        began_s = time.monotonic()
        try:
            await reconciler.reconcile(list(watching.objects(PLATFORMS).values()), _objects(watching))
            failures.worked()
        except (KubernetesError, NotLeadingError) as error:  # the elector ends the process where it lost the Lease
            failures.failed(error)
        except Exception as error:  # a fault of ours: the healer must not end with it, and each round looks anew
            failures.failed(error, exc_info=error)
        rounds.observe(time.monotonic() - began_s)
        await woken_within(wake, LOOK_S)
        await asyncio.sleep(GATHER_S)


async def _say_unlisted(watching: Watching, reconciler: Reconciler) -> None:
    problems = [f"{resource.plural}: {why}" for resource, why in watching.unlisted().items()]
    try:
        await reconciler.unlisted(list(watching.objects(PLATFORMS).values()), problems)
    except (KubernetesError, NotLeadingError) as error:
        _log.warning("unlisted kinds not reported", problem=str(error), unlisted=problems)
    except Exception as error:  # a fault of ours: the watch must not end with it
        _log.warning("unlisted kinds not reported", problem=str(error), unlisted=problems, exc_info=True)


def _objects(watching: Watching) -> dict[Key, Manifest]:
    return {
        Key(resource.kind, name): found
        for resource in (*KINDS.values(), PODS)
        for name, found in watching.objects(resource).items()
    }


def healer_environment(
    configured: settings.OperatorSettings, platform: Platform, objects: Mapping[Key, Manifest]
) -> dict[str, str] | None:
    """The environment of the healer of a platform. None while a Secret with an address is not there: it cannot start
    then, and one that runs goes on as the services do."""
    secrets = {key.name: each for key, each in objects.items() if key.kind == "Secret"}
    redis, internal = databases.addresses(platform, {}).redis, platform.object_name(INTERNAL_SECRET)
    values = {
        "BETTING_POSTGRES_DSN": databases.dsn_in_use(platform, secrets),
        "BETTING_REDIS_URL": databases.decoded(secrets.get(redis.name, {})).get(redis.key, ""),
        "BETTING_INTERNAL_SECRET": databases.decoded(secrets.get(internal, {})).get("secret", ""),
    }
    if not all(values.values()):
        return None
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BETTING_")}
    return {
        **inherited,
        **values,
        "BETTING_INSTANCE": configured.pod,
        "BETTING_GRPC_ADDRESS": f"{configured.pod_ip}:{GRPC_PORT}",
        "BETTING_HEALTH_ADDRESS": f"{configured.pod_ip}:{HEALTH_PORT}",
        "BETTING_METRICS_ADDRESS": f"{configured.pod_ip}:{METRICS_PORT}",
        "BETTING_ODDS_SERVICE": f"{platform.object_name('odds-service')}:{GRPC_PORT}",
        "BETTING_SHARD_COUNT": str(platform.shard_count),
        "BETTING_FLIGHT_FOLDER": FLIGHT_FOLDER,
        "BETTING_KUBERNETES_NAMESPACE": platform.namespace,
        "BETTING_KUBERNETES_PLATFORM": platform.name,
        "BETTING_LOG_LEVEL": configured.log_level,
    }


class _Http:
    """/healthz: the loop answers. /readyz: the same: a standby is ready to lead. /metrics: Prometheus."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> _Http:
        application = web.Application()
        application.add_routes([web.get("/healthz", _ok), web.get("/readyz", _ok), web.get("/metrics", _metrics)])
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, port=self._port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()


async def _ok(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _metrics(_request: web.Request) -> web.Response:
    return web.Response(
        body=prometheus_client.generate_latest(), headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST}
    )
