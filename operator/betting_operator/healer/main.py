"""Composition root of the healer."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from betting.runtime.errors import ConfigurationError
from betting.runtime.launch import ENVIRONMENT_FOLLOWS
from betting.runtime.service import Composition, Hook, ServiceContext, run_service
from betting_operator.healer.archive import Archive
from betting_operator.healer.database import Away, HealerDatabase
from betting_operator.healer.executor import Executor
from betting_operator.healer.feeds import Feeds
from betting_operator.healer.healer import Healer
from betting_operator.healer.history import History
from betting_operator.healer.observer import Observer
from betting_operator.healer.policy_file import PolicyFile
from betting_operator.healer.prober import Prober
from betting_operator.healer.pulse import Pulse
from betting_operator.healer.recorder import Recorder
from betting_operator.healer.redis_watch import RedisWatch
from betting_operator.healer.settings import HealerSettings
from betting_operator.healing.policy import Policy, PolicyError
from betting_operator.platforms.port import CannotDo, Platform, Stored
from betting_operator.platforms.supervisor import SupervisorPlatform

if TYPE_CHECKING:  # its client takes a second to import, and memory
    from betting_operator.healer.action_writer import ActionWriter

SERVICE_NAME = "healer"


async def compose(context: ServiceContext[HealerSettings]) -> Composition:
    """Starts whatever is down: that is what it is for."""
    settings = context.settings
    policy = _policy(settings)
    wake = asyncio.Event()
    database = HealerDatabase(settings.postgres_dsn, str(context.life))
    platform = _platform(context, database)
    prober = Prober(platform.instances)
    odds = context.target("odds-service", settings.odds_service) if settings.odds_service else None
    feeds = Feeds(odds, platform.instances)
    recorder = Recorder(settings.flight_folder)
    archive = Archive(settings.postgres_dsn, str(context.life))
    pulse = Pulse()
    redis = RedisWatch(platform.instances, settings.redis_url)
    observer = Observer(platform, prober, database, feeds, redis, pulse)
    executor = Executor(platform, database, redis, pulse)
    tick_s = settings.tick.total_seconds()

    def show(alerts: tuple[str, ...]) -> None:
        context.alerts = alerts

    writer = _action_writer(context)
    history, telling = _history(settings.flight_folder, writer)
    healer = Healer(
        observer,
        executor,
        database,
        platform,
        recorder,
        archive,
        wake,
        tick_s=tick_s,
        policy=policy,
        history=history,
        show=show,
    )

    async def close() -> None:
        recorder.close()
        if writer is not None:
            await writer.close()
        await redis.close()
        await platform.close()
        await database.close()

    async def watch_platform() -> None:
        await platform.run(exited=wake.set)

    background: list[Hook] = [pulse.run, watch_platform, prober.run, feeds.run, archive.run, healer.run, *telling]
    return Composition(servicers=[], background=background, on_close=[close])


def _policy(settings: HealerSettings) -> Callable[[], Policy]:
    """Raises ConfigurationError."""
    if settings.heal_policy_file is None:
        policy = Policy(disruptions_per_window=settings.heal_budget)
        return lambda: policy
    try:
        return PolicyFile(settings.heal_policy_file)
    except PolicyError as error:
        raise ConfigurationError(f"BETTING_HEAL_POLICY_FILE: {error}") from None


def _platform(context: ServiceContext[HealerSettings], database: HealerDatabase) -> Platform:
    """Raises ConfigurationError."""
    settings, folder = context.settings, context.settings.flight_folder.parent
    if settings.supervisor:
        return SupervisorPlatform(settings.supervisor, context.service_token, folder)
    # Only where it is needed: Kubernetes' client takes a second to import, and memory.
    from betting_operator.platforms import kubernetes

    async def stored() -> Stored:
        try:
            return await database.stored()
        except Away as away:
            raise CannotDo(f"Postgres does not say what is stored: {away}") from None

    names = settings.kubernetes_namespace, settings.kubernetes_platform
    return kubernetes.connected(*names, settings.redis_url, folder, stored)


def _action_writer(context: ServiceContext[HealerSettings]) -> ActionWriter | None:
    """Where the API server is; None on one machine."""
    settings = context.settings
    if settings.supervisor:
        return None
    from betting_operator.healer.action_writer import ActionWriter
    from betting_operator.kubernetes.client import Client, configuration

    client = Client(configuration())
    return ActionWriter(client, settings.kubernetes_namespace, settings.kubernetes_platform, context.life)


def _history(flight_folder: Path, writer: ActionWriter | None) -> tuple[History, list[Hook]]:
    """And what runs for it."""
    if writer is None:
        return History(), []
    from betting_operator.healer.report_file import ReportFile
    from betting_operator.kubernetes.healing_report import FILE

    report = ReportFile(flight_folder.parent / FILE, writer.name_of)
    return History(happened=writer.happened, present=report.present), [writer.run, report.run]


def main() -> None:
    """Runs the healer until it is told to stop. With ENVIRONMENT_FOLLOWS as its argument, from when it is wanted."""
    if sys.argv[1:] == [ENVIRONMENT_FOLLOWS]:
        for module in ("betting_operator.platforms.kubernetes", "betting_operator.healer.action_writer"):
            importlib.import_module(module)
        _wait_for_environment()
    run_service(SERVICE_NAME, compose, HealerSettings)


def _wait_for_environment() -> None:
    """Ends the process where whoever would write it has ended."""
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    os.environ.clear()
    os.environ.update(json.loads(line))
