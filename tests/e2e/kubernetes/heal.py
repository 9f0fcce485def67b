"""`make e2e-heal`: faults on a real Kubernetes cluster under load, healed within their budgets, and without the healer.

Brings up the cluster, installs the platform with three bet-services and three Redis nodes, injects each fault so many
times, and measures how long the worst shard accepted no bet. Then the healer is turned off and each fault is injected
once more: that is what Kubernetes, and the bet-services among themselves, do alone. Exit code 0: all budgets are kept.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

import evidence
import heal_actions
import heal_parts
import scenarios_installing
import variants
from bettors import Load
from cluster_under_test import IMAGE, SHARDS, VARIANTS, add_options, gateway_url, on_cluster, saved
from heal_fault import Fault, Measure
from heal_faults import FAIL_TOGETHER, FAULTS
from heal_quiet import LASTS_S, QUIETS, REACTS_S, Quiet, groups
from heal_report import HealReport, QuietRow, Row, Run
from heal_targets import BET_SERVICE, node_with_services, pods_on, untouched_pod
from platform_under_test import Installed
from report import PIPE_WIDTH
from rich.console import Console
from scenarios_outages import all_ready
from scene import Scene
from tools import CHECKOUT, RESULTS, Failed, python, say, show, wait_for

SIZE = {"services": {"betService": {"replicas": 3}}, "redis": {"managed": {"replicas": 3}}}
ROUNDS = 3
# The platform is itself again, and the healer has evidence of its own, within this time after a fault.
SETTLED_S = 240.0
HEALER_WATCHES_S = 2.0
# A fault is watched for at least so long, and until every shard has accepted bets for a while.
WATCH_MIN_S = 4.0
STEADY_S = 1.5
WATCH_MAX_S = 60.0
WATCH_STEP_S = 0.25
ANSWERED_EVERY_S = 1.0
WRITTEN_S = 15.0  # until what the healer has done is in its HealingAction objects


def main() -> int:
    """Exit code 1: a budget was missed, a bet lost, or something could not be tried; 130: interrupted."""
    options = _parser().parse_args()
    if options.list:
        for each in FAULTS:
            print(f"{each.name:18} {each.budget_s:4.0f} s  {'core' if each.core else '    '}  {each.summary}")
        for quiet in QUIETS:
            print(f"{quiet.name:18}   quiet        {quiet.summary}")
        return 0
    return on_cluster(options, _prove)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make e2e-heal", description=__doc__.splitlines()[0] if __doc__ else None)
    names = [each.name for each in (*FAULTS, *QUIETS)]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help="may be repeated; see --list")
    parser.add_argument("--core", action="store_true", help="its core: few faults, once each")
    parser.add_argument("--list", action="store_true", help="print the faults and their budgets")
    rounds = f"how often each is injected, but for those that are injected once (default {ROUNDS})"
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=rounds)
    parser.add_argument("--no-comparison", action="store_true", help="leave out the faults without the healer")
    parser.add_argument(
        "--watch-max",
        type=float,
        default=WATCH_MAX_S,
        metavar="S",
        help="longest that one fault is watched, in seconds",
    )
    soak = "in place of rounds: faults in random order, for so many hours (see make soak)"
    parser.add_argument("--soak-hours", type=float, metavar="H", help=soak)
    parser.add_argument("--seed", type=int, help="of the random order (default: of this moment; it is printed)")
    add_options(parser)
    return parser


def _prove(options: argparse.Namespace) -> int:
    images = variants.add(IMAGE, VARIANTS)
    show(python(), CHECKOUT / "hack" / "cluster.py", "load", VARIANTS)
    chosen = [each for each in FAULTS if (each.name in options.only if options.only else each.core or not options.core)]
    quiet = [each for each in QUIETS if (each.name in options.only if options.only else not options.core)]
    rounds = 1 if options.core else options.rounds
    report = HealReport({each.name: Row(each) for each in chosen})
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        acks = Path(folder) / "acknowledgements.jsonl"
        with Load(gateway_url(), SHARDS, acks) as load:
            scene = Scene(Installed(size=SIZE), load, images)
            try:
                _run_all(chosen, quiet, scene, report, options, rounds)
            except Exception as error:  # what was measured until then is reported
                report.failed = _said(error, "ended-early", scene.platform)
        try:
            report.evidence = evidence.gather(scene.platform, load.all_keys, report.keys(), acks)
        except Failed as error:
            say(f"the journal could not be asked: {error}")
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)
    report.show(console)
    console.print(f"JSON: {report.save()}")
    problems = report.problems()
    for each in problems:
        console.print(f"- {each}", markup=False)
    minutes, seconds = divmod(round(time.monotonic() - report.began_s), 60)
    console.print(f"{'DOES NOT HOLD' if problems else 'HOLDS'} after {minutes} min {seconds} s", style="bold")
    return 1 if problems else 0


def _run_all(
    chosen: list[Fault],
    quiet: list[Quiet],
    scene: Scene,
    report: HealReport,
    options: argparse.Namespace,
    rounds: int,
) -> None:
    if not scene.platform.is_there():
        say("installing the platform first")
        with report.part("installing"):
            scenarios_installing.install(scene)
    if options.soak_hours is not None:
        with report.part("soak"):
            _soak(chosen, scene, report, options)
        return
    for number in range(1, rounds + 1):
        with report.part(f"faults, round {number}"):
            for each in chosen:
                if number == 1 or not each.once:
                    _run(each, scene, report.rows[each.name], f"{number} of {rounds}", options.watch_max)
    with report.part("what must stay quiet"):
        for at_once in groups(quiet):
            _stay_quiet(at_once, scene, report)
    if options.no_comparison or options.core or not chosen:
        return
    with report.part("without the healer"):
        _without_healer(chosen, scene, report, options)


def _without_healer(chosen: list[Fault], scene: Scene, report: HealReport, options: argparse.Namespace) -> None:
    say("--- without the healer")
    try:
        for each in (fault for fault in chosen if fault.alone and not fault.same_alone):
            _disable_healer(scene.platform)
            row = report.rows[each.name]
            _run(each, scene, row, "without the healer", options.watch_max, healer=False)
            if row.alone[-1].outage_s is None:  # nobody else repairs it
                scene.platform.change(healing={"enabled": True})
                _settle(scene.platform, healer=True)
    finally:
        scene.platform.change(healing={"enabled": True})


def _disable_healer(platform: Installed) -> None:
    platform.change(healing={"enabled": False})
    wait_for("the healer has stopped", lambda: not _healer_runs(platform), SETTLED_S)


def _soak(chosen: list[Fault], scene: Scene, report: HealReport, options: argparse.Namespace) -> None:
    """Injects random faults for some hours. What failed is noted, and the platform brought back for the next one.

    Faults that each run has once are drawn once: a template that was rolled back is not rolled back again.
    """
    report.seed = seed = options.seed if options.seed is not None else time.time_ns() % 1_000_000
    draw, ends_s = random.Random(seed), time.monotonic() + 3_600.0 * options.soak_hours
    say(f"soak for {options.soak_hours:g} h with seed {seed}")
    number = 0
    while time.monotonic() < ends_s:
        left = [each for each in chosen if not (each.once and report.rows[each.name].runs)]
        if not left:
            return
        number += 1
        fault = draw.choice(left)
        row = report.rows[fault.name]
        _run(fault, scene, row, f"number {number}, {(ends_s - time.monotonic()) / 60:.0f} min left", options.watch_max)
        if row.runs[-1].failed:
            scene.platform.restore(scene.images.current)


def _run(fault: Fault, scene: Scene, row: Row, which: str, watch_max_s: float, *, healer: bool = True) -> None:
    """Injects one fault and measures it; what fails is noted."""
    say(f"--- {fault.name} ({which}): {fault.summary}")
    run, began_s = Run(), time.monotonic()
    (row.runs if healer else row.alone).append(run)
    try:
        _settle(scene.platform, healer=healer)
        since = heal_actions.now()
        watching = _watched(fault, scene)
        with scene.load.phase() as figures, watching as measured, fault.inject(scene) as injected:
            say(f"injected: {injected.what}")
            run.target = injected.what
            longest_s = max(watch_max_s, 2 * fault.budget_s)
            run.outage_s = _watch(scene.load, injected.at_s, measured, longest_s)
            if run.outage_s is not None and injected.said_s is not None:
                run.outage_s = injected.said_s
        run.bets = figures[0]
        if run.outage_s is not None and run.outage_s < fault.felt_s:
            raise Failed(f"{run.target}: only {run.outage_s:.2f} s: nobody was hit")
        if healer:
            run.wrong = _judged(fault, scene.platform, since)
            for each in run.wrong:
                say(f"WRONG: {each}")
    except Exception as error:  # an error of the proof is one of this run, not of an hour of runs
        run.failed = _said(error, fault.name, scene.platform)
        return
    finally:
        run.took_s = time.monotonic() - began_s
    shown = "not within the time that it was watched" if run.outage_s is None else f"{run.outage_s:.2f} s"
    refused = dict(run.bets.refused) if run.bets else {}
    say(f"--- {fault.name} ({which}): {shown}, budget {fault.budget_s:g} s, refused {refused}")


def _judged(fault: Fault, platform: Installed, since: datetime) -> list[str]:
    """What the healer did since then that it must not do about this fault, or did not do, a line each."""
    wrong = []
    if fault.answer is not None:
        try:
            heal_actions.wait_answered(platform, fault.answer, since, WRITTEN_S)
        except Failed:
            wrong.append(f"the healer has not answered {fault.answer.diagnosis} by {', '.join(fault.answer.actions)}")
    found = heal_actions.disruptive(heal_actions.of(platform), fault.never, since)
    return [*wrong, *(f"the healer should not have: {each}" for each in found)]


def _stay_quiet(at_once: list[Quiet], scene: Scene, report: HealReport) -> None:
    """Disturbs the platform for a minute in each of these ways, and notes what the healer did."""
    names = ", ".join(each.name for each in at_once)
    say(f"--- quiet: {names}: {'; '.join(each.summary for each in at_once)}")
    rows = [QuietRow(each) for each in at_once]
    report.quiet += rows
    try:
        _settle(scene.platform, healer=True)
        since = heal_actions.now()
        with scene.load.phase() as figures:
            began_s = time.monotonic()
            with ExitStack() as stack:
                for each in at_once:
                    stack.enter_context(each.disturb(scene))
                time.sleep(max(0.0, began_s + LASTS_S - time.monotonic()))
            time.sleep(REACTS_S)  # that nothing happens has no event
        found = heal_actions.of(scene.platform)
        for row in rows:
            row.bets = figures[0]
            row.disruptive = heal_actions.disruptive(found, row.quiet.never, since)
    except Exception as error:
        failed = _said(error, at_once[0].name, scene.platform)
        for row in rows:
            row.failed = failed
    problems = [problem for row in rows for problem in row.problems()]
    say(f"--- quiet: {names}: {problems or 'nothing disruptive'}")


def _said(error: Exception, name: str, platform: Installed) -> str:
    """Says that a run failed and where, saves what is seen of the platform now, and returns why."""
    why = str(error) if isinstance(error, Failed) else "".join(traceback.format_exception(error))
    say(f"FAILED: {why}")
    say(f"what was seen then: {saved(f'heal-{name}', platform)}")
    return why


def _settle(platform: Installed, *, healer: bool) -> None:
    """Until everything is Ready, every bet-service owns shards, another operator could take over, and the healer has
    nothing to say of Redis (a replica without a link is the fault before) and has watched all that for a while."""

    def is_whole() -> bool:
        bet_services = {each["metadata"]["name"] for each in platform.pods(BET_SERVICE)}
        owning = set(platform.shown_owners().values())
        return all_ready(platform) and owning == bet_services and _operators_run(platform)

    wait_for("the platform is whole", is_whole, SETTLED_S, platform.why)
    if healer:
        wait_for("the healer runs", lambda: _healer_runs(platform), SETTLED_S, platform.why)
        wait_for("Redis is whole", lambda: _redis_is_whole(platform), SETTLED_S, platform.why)
        time.sleep(HEALER_WATCHES_S)


def _operators_run(platform: Installed) -> bool:
    """Whether there are several, and none waits for its kubelet to start it again."""
    pods = platform.pods(operator=True)
    containers = [each for pod in pods for each in pod["status"].get("containerStatuses", ())]
    return len(pods) > 1 and len(containers) == len(pods) and all("running" in each["state"] for each in containers)


def _redis_is_whole(platform: Installed) -> bool:
    status = platform.status()
    told = [each for each in status.get("activeDiagnoses", ()) if each["kind"].startswith("redis-")]
    return status["redis"]["readyNodes"] == status["redis"]["nodes"] and not told


def _healer_runs(platform: Installed) -> bool:
    return platform.leader() in platform.shown_ready()


Measured = Callable[[float], float | None]


@contextmanager
def _watched(fault: Fault, scene: Scene) -> Iterator[Measured]:
    """What tells, of a moment of the fault, how long it was until that worked again; None: it does not yet."""
    measure = fault.measure
    if measure is Measure.BETS:
        yield lambda fault_s: scene.load.outage(fault_s, time.monotonic()).worst_s
    elif measure is Measure.SLOWEST_BET:
        yield scene.load.slowest_s
    elif measure is Measure.REDIS:
        with heal_parts.redis_writes(scene, untouched_pod(scene.platform)) as watched:
            yield lambda fault_s: heal_parts.back_s(watched.tries, fault_s)
    elif measure is Measure.WALLET:
        with heal_parts.wallet_reads(scene) as watched:
            yield lambda fault_s: heal_parts.back_s(watched.tries, fault_s)
    elif measure is Measure.FEED:
        with heal_parts.feed_heard(scene) as watched:
            yield lambda fault_s: heal_parts.back_s(watched.tries, fault_s, must_fail=True)
    elif measure is Measure.CONSUMER:
        with heal_parts.notifications_moving(scene) as watched:
            yield lambda fault_s: heal_parts.back_s(watched.tries, fault_s, must_fail=True)
    elif measure is Measure.SAID:
        yield lambda _: 0.0  # it was, or the injection would have failed
    elif measure is Measure.MOVED:
        node, services = node_with_services(scene.platform, FAIL_TOGETHER)
        yield _since(lambda: not pods_on(scene.platform, node, services))
    elif measure is Measure.ANSWERED:
        assert fault.answer is not None
        yield _answered(scene.platform, fault.answer)
    else:
        yield _since(lambda: scene.platform.condition("RolledOut").get("reason") == "RolledBack")


def _since(holds: Callable[[], object]) -> Measured:
    """Seconds from the fault until it first held, when it was asked."""
    found: list[float] = []

    def measured(fault_s: float) -> float | None:
        if not found and holds():
            found.append(time.monotonic() - fault_s)
        return found[0] if found else None

    return measured


def _answered(platform: Installed, answer: heal_actions.Answer) -> Measured:
    """By the times of the HealingActions: how often they are looked at is not measured."""
    asked_s, found = float("-inf"), None

    def measured(fault_s: float) -> float | None:
        nonlocal asked_s, found
        if found is None and time.monotonic() - asked_s >= ANSWERED_EVERY_S:
            asked_s = time.monotonic()
            found = heal_actions.answered_s(heal_actions.of(platform), answer, heal_actions.at(fault_s))
        return found

    return measured


def _watch(load: Load, fault_s: float, measured: Measured, watch_max_s: float) -> float | None:
    """What was measured, once every shard accepts bets again, too; None: not so for as long as it was watched."""
    while True:
        time.sleep(WATCH_STEP_S)
        now_s = time.monotonic()
        over = now_s - fault_s > watch_max_s
        if now_s - fault_s < WATCH_MIN_S and not over:
            continue
        bets_s = load.outage(fault_s, now_s).worst_s
        found_s = measured(fault_s)
        if over or (bets_s is not None and found_s is not None and load.quiet_for_s() < STEADY_S):
            return None if bets_s is None else found_s


if __name__ == "__main__":
    sys.exit(main())
