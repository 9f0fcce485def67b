"""The front door: what a service's `__main__.py` calls, and the names its `main.py` needs."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from betting.runtime import clock, ids, lifecycle, logs, metrics, names, settings
from betting.runtime.composition import Composition, Hook, Servicer
from betting.runtime.errors import ConfigurationError
from betting.runtime.server import PortBusyError
from betting.runtime.service_context import ServiceContext
from betting.runtime.settings import EXIT_CONFIGURATION, ServiceSettings

__all__ = ["Composition", "Hook", "ServiceContext", "ServiceSettings", "Servicer", "run_service"]

EXIT_CLEAN = 0
EXIT_FAILED = 1
EXIT_PORT_BUSY = 3

# A supervisor that starts processes names their lives itself, so that it can say which one ended. Elsewhere each start
# of the process makes its boot id, so that a container restarted inside its pod is a new life.
BOOT_ID_VARIABLE = "BETTING_BOOT_ID"
# A file (default: none) that gets the boot id at the start. On Kubernetes, /dev/termination-log: the kubelet then shows
# it as the termination message of the container, which so names the life that ended, however it ended.
TERMINATION_LOG_VARIABLE = "BETTING_TERMINATION_LOG"

S = TypeVar("S", bound=ServiceSettings)


def run_service(
    name: str,
    compose: Callable[[ServiceContext[Any]], Awaitable[Composition]],
    settings_type: type[ServiceSettings] = ServiceSettings,
) -> NoReturn:
    """Runs a service until SIGTERM or SIGINT, then ends the process.

    Exit codes: 0 drained and stopped, 1 a background task or the start failed (the log says why), 2 configuration (one
    line on stderr names the variable), 3 the port is busy. A second signal ends the process at once (128 + signal).
    """
    gc.enable()  # launch.py turns it off
    gc.freeze()  # what imports made is there to stay: no collection needs to look at it again
    try:
        configured = settings.load(settings_type)
        sys.exit(_run(name, compose, configured))
    except ConfigurationError as error:
        _give_up(EXIT_CONFIGURATION, name, str(error))
    except PortBusyError as error:
        _give_up(EXIT_PORT_BUSY, name, str(error))


def _run(name: str, compose: lifecycle.Compose, configured: ServiceSettings) -> int:
    boot_id = os.environ.get(BOOT_ID_VARIABLE) or ids.new_boot_id()
    logs.configure(
        workload=name,
        instance=configured.instance,
        boot_id=boot_id,
        level=configured.log_level,
        log_format=configured.log_format,
    )
    name_in_termination_log(name, boot_id)
    exposition = _exposed(name, configured)
    try:
        with asyncio.Runner(loop_factory=names.Loop) as runner:
            return runner.run(_live(name, compose, configured, boot_id))
    finally:
        if exposition is not None:
            exposition.close()


async def _live(name: str, compose: lifecycle.Compose, configured: ServiceSettings, boot_id: str) -> int:
    context = ServiceContext(name, configured, boot_id=boot_id)
    stop = asyncio.Event()
    _stop_on_signals(stop)
    _listen_for_faults(context)
    try:
        await lifecycle.live(context, compose, stop)
    except (ConfigurationError, PortBusyError):
        raise
    except Exception as error:  # the last frame of the process: whatever it is, say it and fail
        context.log.critical("stopped by an error", exc_info=error)
        return EXIT_FAILED
    finally:
        await context.close()
    context.log.info("stopped")
    return EXIT_CLEAN


def _stop_on_signals(stop: asyncio.Event) -> None:
    """The first SIGTERM or SIGINT drains, the second ends the process at once."""

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)


def _listen_for_faults(context: ServiceContext[Any]) -> None:
    """SIGUSR1 and SIGUSR2 inject faults where BETTING_FAULT_HOOKS allows it, and do nothing elsewhere.

    They are handled either way: by default each would end the process.
    """

    def step_clock() -> None:
        context.log.warning("clock step injected", off_us=clock.step())

    def on_signal(number: signal.Signals) -> None:
        hook = context.fault_hooks.get(number)
        if not context.settings.fault_hooks:
            context.log.warning(
                "signal ignored: fault hooks are off", signal=number.name, setting="BETTING_FAULT_HOOKS"
            )
        elif hook is None:
            context.log.warning("signal ignored: this service has no fault for it", signal=number.name)
        else:
            hook()

    context.fault_hooks[signal.SIGUSR2] = step_clock
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)


def name_in_termination_log(name: str, boot_id: str) -> None:
    """Nothing but the boot id: whoever reads it takes the whole message. A file that cannot be written stops nobody."""
    path = os.environ.get(TERMINATION_LOG_VARIABLE)
    if not path:
        return
    try:
        Path(path).write_text(boot_id, "ascii")
    except (OSError, ValueError) as error:
        logs.get(name).warning("termination log not written", path=path, error=str(error))


def _exposed(name: str, configured: ServiceSettings) -> metrics.Exposition | None:
    if configured.metrics_address is None:
        return None
    try:
        return metrics.serve(configured.metrics_address, workload=name, instance=configured.instance)
    except OSError:
        raise PortBusyError(
            f"cannot serve metrics on {configured.metrics_address}: is another process using the port?"
        ) from None


def _give_up(code: int, name: str, sentence: str) -> NoReturn:
    sys.stderr.write(f"{name}: {sentence}\n")
    sys.exit(code)
