"""`make e2e`: the product on a real Kubernetes cluster, from nothing, under load, and away again.

Brings up the cluster (hack/cluster.py), builds and loads the image, installs chart and example as documented, runs the
scenarios, looks up every acknowledged bet, prints the report, and removes the cluster. Exit code 0: everything holds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import evidence
import scenarios_conditions
import scenarios_installing
import scenarios_outages
import scenarios_rolling
import side_by_side
import variants
from bettors import Load
from cluster_under_test import IMAGE, SHARDS, VARIANTS, add_options, gateway_url, on_cluster, saved
from platform_under_test import Installed
from report import PIPE_WIDTH, Report, Result
from rich.console import Console
from scene import Scenario, Scene
from tools import CHECKOUT, CLUSTER, RESULTS, Failed, Skipped, python, say, show

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
    return on_cluster(options, _prove)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make e2e", description=__doc__.splitlines()[0] if __doc__ else None)
    names = [each.name for each in SCENARIOS]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help="may be repeated; see --list")
    parser.add_argument("--core", action="store_true", help="the ten-minute core")
    parser.add_argument("--list", action="store_true", help="print the scenarios")
    parser.add_argument(
        "--allow-skipped", action="store_true", help="a scenario that this cluster cannot show does not fail the run"
    )
    add_options(parser)
    return parser


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
        with Load(gateway_url(), SHARDS, acks) as load:
            scene = Scene(Installed(), load, images)
            _run_all(chosen, scene, report)
        bets = {each.name: each.bets.keys for each in report.results if each.bets is not None}
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
        say(f"what was seen then: {saved(scenario.name, scene.platform)}")
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


if __name__ == "__main__":
    sys.exit(main())
