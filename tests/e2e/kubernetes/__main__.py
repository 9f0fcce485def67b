"""`make e2e`: the product on a real Kubernetes cluster, from nothing, under load, and away again.

Brings up the cluster (hack/cluster.py), builds and loads the image, installs chart and example as documented, runs the
scenarios, looks up every acknowledged bet, prints the report, and removes the cluster. Exit code 0: everything holds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import evidence
import scenarios_conditions
import scenarios_installing
import scenarios_outages
import scenarios_rolling
import side_by_side
import variants
from bettors import Load
from platform_under_test import Installed
from report import PIPE_WIDTH, Report, Result
from rich.console import Console
from scene import Scenario, Scene
from tools import CHECKOUT, CLUSTER, RESULTS, Failed, Skipped, items, python, run, say, show

HTTP_PORT = CLUSTER / "http-port"  # written by hack/cluster.py
DEFAULT_HTTP_PORT = "18080"
SHARDS = 16
IMAGE = CLUSTER / "images" / "betting.tar"
VARIANTS = CLUSTER / "images" / "e2e.tar"
# In this order: what changes nothing for good first, and what takes everything away last.
SCENARIOS = (
    scenarios_installing.INSTALL,
    *scenarios_rolling.SCENARIOS,
    *scenarios_outages.SCENARIOS,
    *scenarios_conditions.SCENARIOS,
    *side_by_side.SCENARIOS,
    *scenarios_installing.SCENARIOS,
)


def main() -> int:
    """Exit code 1: something does not hold, or could not be tried; 130: interrupted."""
    options = _parser().parse_args()
    if options.list:
        for each in SCENARIOS:
            print(f"{each.name:16} {'core' if each.core else '    '}  {each.summary}")
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _build(options)  # first: it says within a second what it lacks
        with _cluster(options):
            return _prove(options)
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make e2e", description=__doc__.splitlines()[0] if __doc__ else None)
    names = [each.name for each in SCENARIOS]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help="may be repeated; see --list")
    parser.add_argument("--core", action="store_true", help="the ten-minute core")
    parser.add_argument("--list", action="store_true", help="print the scenarios")
    parser.add_argument("--keep", action="store_true", help="leave the cluster up")
    parser.add_argument("--no-build", action="store_true", help="use the image that was built last")
    parser.add_argument(
        "--allow-skipped", action="store_true", help="a scenario that this cluster cannot show does not fail the run"
    )
    parser.add_argument(
        "--use-running", action="store_true", help="use the cluster that KUBECONFIG names, and leave it up"
    )
    return parser


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _cluster(options: argparse.Namespace) -> Iterator[None]:
    """A cluster for the length of a block, or the one there is."""
    cluster = CHECKOUT / "hack" / "cluster.py"
    if options.use_running:
        yield
        return
    show(python(), cluster, "up")
    try:
        os.environ["KUBECONFIG"] = str(CLUSTER / "kubeconfig")
        os.environ["PATH"] = f"{CLUSTER / 'bin'}{os.pathsep}{os.environ['PATH']}"
        yield
    finally:
        if options.keep:
            say(f"the cluster stays: export KUBECONFIG={CLUSTER / 'kubeconfig'} PATH={CLUSTER / 'bin'}:$PATH")
        else:
            for number in (signal.SIGINT, signal.SIGTERM):  # a second one must not leave half a cluster
                signal.signal(number, signal.SIG_IGN)
            show(python(), cluster, "down")


def _build(options: argparse.Namespace) -> None:
    if not options.no_build:
        show(python(), CHECKOUT / "hack" / "image.py", "--output", IMAGE)
    if not IMAGE.is_file():
        raise Failed(f"there is no {IMAGE}: build it (make image), or leave --no-build out")


def _prove(options: argparse.Namespace) -> int:
    images = variants.add(IMAGE, VARIANTS)
    if options.use_running and os.environ.get("KUBECONFIG") != str(CLUSTER / "kubeconfig"):
        say(f"not the cluster of this checkout: its nodes must have the images of {VARIANTS} already")
    else:
        show(python(), CHECKOUT / "hack" / "cluster.py", "load", VARIANTS)
    chosen = [each for each in SCENARIOS if _is_chosen(each.name, options, core=each.core)]
    report = Report(whole=not options.only and not options.core, skips_allowed=options.allow_skipped)
    RESULTS.mkdir(exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        acks = Path(folder) / "acknowledgements.jsonl"
        with Load(_gateway_url(), SHARDS, acks) as load:
            scene = Scene(Installed(), load, images)
            _run_all(chosen, scene, report)
        bets = {each.name: each.bets for each in report.results if each.bets is not None}
        try:
            report.evidence = evidence.gather(scene.platform, load.all_keys, bets, acks)
        except Failed as error:
            say(f"the journal could not be asked: {error}")
    report.show(console)
    console.print(f"JSON: {report.save()}")
    problems = report.problems()
    for each in problems:
        console.print(f"- {each}", markup=False)
    minutes, seconds = divmod(round(time.monotonic() - report.began_s), 60)
    console.print(f"{'DOES NOT HOLD' if problems else 'HOLDS'} after {minutes} min {seconds} s", style="bold")
    return 1 if problems else 0


def _gateway_url() -> str:
    """Where the gateway's NodePort is reached from here."""
    ours = os.environ.get("KUBECONFIG") == str(CLUSTER / "kubeconfig") and HTTP_PORT.exists()
    return f"http://127.0.0.1:{HTTP_PORT.read_text('utf-8') if ours else DEFAULT_HTTP_PORT}"


def _is_chosen(name: str, options: argparse.Namespace, *, core: bool) -> bool:
    if options.only:
        return name in options.only
    return core or not options.core


def _run_all(chosen: list[Scenario], scene: Scene, report: Report) -> None:
    """One after the other. What a failed one left is put right before the next."""
    if not scene.platform.is_there() and scenarios_installing.INSTALL not in chosen:
        say("installing the platform first")
        scenarios_installing.install(scene)
    for each in chosen:
        result = _run(each, scene, report)
        if not result.failed or each is chosen[-1]:
            continue
        try:
            scene.platform.restore(scene.images.current)
        except Failed as error:
            result.failed.append(f"the platform could not be brought back, the rest was not tried: {error}")
            return


def _run(scenario: Scenario, scene: Scene, report: Report) -> Result:
    say(f"--- {scenario.name}: {scenario.summary}")
    result = Result(scenario.name, scenario.summary)
    report.results.append(result)
    began_s = time.monotonic()
    with _noted(result):
        try:
            scenario.require(scene)
        except Skipped as error:
            result.skipped = str(error)
    if not result.skipped and not result.failed:
        with _noted(result):
            _try(scenario, scene, result)
    result.took_s = time.monotonic() - began_s
    for problem in result.failed:
        say(f"FAILED: {problem}")
    if result.failed:
        say(f"what was seen then: {_saved(scenario.name, scene.platform)}")
    verdict = f"skipped: {result.skipped}" if result.skipped else ("does not hold" if result.failed else "holds")
    say(f"--- {scenario.name}: {verdict}, {result.took_s:.0f} s")
    return result


def _try(scenario: Scenario, scene: Scene, result: Result) -> None:
    """Runs it, with bettors where it has some: the bets until it failed count all the same."""
    if not scenario.loaded:
        result.facts = scenario.run(scene)
        return
    with scene.load.phase() as figures, _noted(result):
        result.facts = scenario.run(scene)
    result.bets = figures[0]
    result.failed += figures[0].problems()


@contextlib.contextmanager
def _noted(result: Result) -> Iterator[None]:
    """Errors of whatever kind become failures: what the others have found is reported all the same."""
    try:
        yield
    except Failed as error:
        result.failed.append(str(error))
    except Exception as error:
        result.failed.append(f"{type(error).__name__}: {error}")
        traceback.print_exc()


def _saved(name: str, platform: Installed) -> Path:
    """Writes down the state of the platform and the operator's logs, for whoever looks for the cause."""
    at = f"--namespace={platform.namespace}"
    operator = "--selector=app.kubernetes.io/name=betting-operator"
    ours = "--selector=app.kubernetes.io/part-of=betting"
    commands = (
        ("get", "bettingplatforms", at, "--output=yaml"),
        ("get", "all", at, "--output=wide"),
        ("get", "events", at, "--sort-by=.lastTimestamp"),
        ("get", "endpointslices", at, "--output=wide"),
        ("get", "lease", "betting-operator", at, "--output=yaml"),
        ("logs", at, operator, "--tail=400", "--prefix"),
        ("logs", at, operator, "--tail=200", "--prefix", "--previous"),
        ("logs", at, ours, "--tail=60", "--prefix", "--max-log-requests=60"),
    )
    cluster = (str(python()), str(CHECKOUT / "hack" / "cluster.py"), "exec")
    nodes: list[str] = []
    with contextlib.suppress(Failed):
        nodes = [each["metadata"]["name"] for each in items("nodes")]
    firewalls = [(*cluster, node, *each) for node in nodes for each in (("iptables-save",), ("ipset", "save"))]
    path = RESULTS / f"{name}.log"
    with path.open("w", encoding="utf-8") as file:
        for command in [*(("kubectl", *each) for each in commands), *firewalls]:
            file.write(f"\n$ {' '.join(command)}\n")
            try:
                file.write(run(*command, timeout_s=60.0))
            except Failed as error:
                file.write(str(error))
    return path


if __name__ == "__main__":
    sys.exit(main())
