"""What the end-to-end proof concludes from what it saw."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import platform
import signal
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import api_calls
import bettors
import cluster_under_test
import pytest
import tools
import variants
from evidence import Evidence
from platform_under_test import Images, Installed
from report import PIPE_WIDTH, Report, Result
from rich.console import Console
from scene import Facts, Scenario, Scene
from tools import Failed, Skipped

from betting.drills.measure import ACCEPTED, Attempt

STEADY = [Attempt(0, number / 8, number / 8 + 0.02, ACCEPTED, 1, f"key-{number}", True) for number in range(80)]


def judged(*attempts: Attempt) -> bettors.Bets:
    return bettors.judged([*STEADY, *attempts], [0], 0.0, 10.0)


def test_a_steady_load_has_no_problem() -> None:
    found = judged()
    assert (found.accepted, found.problems()) == (80, [])
    assert found.worst_s == pytest.approx(0.02)
    assert found.least_per_s == 8.0
    assert "key-3" in found.keys


def test_a_bet_that_was_taken_at_its_second_try_was_refused_once() -> None:
    """Bettors repeat a request until it has an answer: that hides nothing."""
    found = judged(Attempt(0, 5.0, 6.5, ACCEPTED, 2, "again", True, "{'code': 'REFUSAL_CODE_BOOK_STALE', 'x': 1}"))
    assert found.accepted == 81
    assert found.refused == {"BOOK_STALE": 1}
    assert found.problems() == ["1 bets were refused, sent 5 to 5 s after the start: BOOK_STALE"]
    assert found.worst_s == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("outcome", "past_closing_s", "refused"),
    [
        ("PRICE_MOVED", -60.0, ""),
        ("MARKET_CLOSED", 0.1, ""),
        ("MARKET_NOT_OPEN", 12.0, ""),
        ("MARKET_NOT_OPEN", -0.9, ""),  # clocks differ
        ("MARKET_NOT_OPEN", -1.1, "MARKET_NOT_OPEN before the kick-off"),
        ("MARKET_RESULTED", -60.0, "MARKET_RESULTED before the kick-off"),
        ("MARKET_CLOSED", None, "MARKET_CLOSED before the kick-off"),
        ("SHARD_FROZEN", 12.0, "SHARD_FROZEN"),
    ],
)
def test_that_a_market_takes_no_bets_is_late_from_the_kick_off_on(
    outcome: str, past_closing_s: float | None, refused: str
) -> None:
    """Before it the market should have taken the bet."""
    found = judged(Attempt(0, 5.0, 5.1, outcome, 1, "key", True, past_closing_s=past_closing_s))
    assert found.refused == ({refused: 1} if refused else {})
    assert found.late == ({} if refused else {outcome: 1})


def test_how_early_a_market_took_no_bets_is_said() -> None:
    refused = [Attempt(0, 5.0, 5.1, "MARKET_NOT_OPEN", 1, "key", True, past_closing_s=-each) for each in (2.04, 900.0)]
    (problem,) = judged(*refused).problems()
    assert problem.endswith(": MARKET_NOT_OPEN before the kick-off (2.0 to 900.0 s before it)")


def test_the_table_shows_late_bets() -> None:
    late = Attempt(0, 5.0, 5.1, "PRICE_MOVED", 1, "key", True)
    report = Report([Result("drain", "", bets=judged(*[late] * 77)), Result("at-rest", "")])
    with (console := Console(width=PIPE_WIDTH)).capture() as shown:
        report.show(console)
    lines = shown.get().splitlines()
    (header,) = (line for line in lines if "refused" in line)
    (row,) = (line for line in lines if "drain" in line and "\u2502" in line)
    column = [each.strip() for each in header.split("\u2503")].index("late")
    assert row.split("\u2502")[column].strip() == "77"


def test_a_bet_without_an_answer_is_a_problem() -> None:
    assert judged(Attempt(0, 5.0)).problems() == ["1 bets had no answer after 20 s"]


def test_a_shard_that_pauses_or_is_hardly_loaded_proves_nothing() -> None:
    halves = [each for each in STEADY if not 2.0 <= each.sent_s < 8.0]
    problems = bettors.judged(halves, [0], 0.0, 10.0).problems()
    assert problems == [
        "a shard accepted no bet for 6.1 s",
        "a shard had only 3.2 bets/s: the load was too small to prove anything",
    ]


def call(second: float, pod: str, verb: str, resource: str, code: int = 200) -> api_calls.Call:
    return api_calls.Call(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second), pod, verb, resource, "x", code)


def test_a_write_of_a_pod_that_has_lost_the_lease_is_found() -> None:
    """Reads, refused writes, and the attempts at the Lease itself are none."""
    stray = call(3, "a", "patch", "services")
    calls = [
        call(0, "a", "update", "leases"),
        call(1, "a", "patch", "services"),
        call(2, "b", "update", "leases"),
        stray,
        call(4, "a", "get", "services"),
        call(5, "a", "patch", "services", 409),
        call(6, "a", "update", "leases", 409),
        call(7, "b", "patch", "services"),
    ]
    assert api_calls.acted_without_lease(calls) == [stray]


def test_an_audit_log_without_the_leaders_lease_is_no_evidence() -> None:
    """Nothing stray is found where nothing was written down, too."""
    calls = [call(0, "a", "update", "leases"), call(1, "b", "get", "leases"), call(2, "b", "update", "leases", 409)]
    api_calls.expect_evidence(calls, "a")
    with pytest.raises(Failed, match=r"no write of the Lease by b, which led: 3 requests"):
        api_calls.expect_evidence(calls, "a", "b")
    with pytest.raises(Failed, match=r"no write of the Lease by a, which led: 0 requests"):
        api_calls.expect_evidence([], "a")


def test_requests_before_the_audit_log_was_rotated_are_read_too(minicluster: Path) -> None:
    """The API server begins a new file after so many megabytes."""
    account = "system:serviceaccount:betting:betting-operator"

    def line(minute: int, pod: str) -> str:
        user = {"username": account, "extra": {"authentication.kubernetes.io/pod-name": [pod]}}
        target = {"resource": "leases", "name": "betting-operator"}
        at = f"2026-01-01T00:{minute:02}:00.000000Z"
        told = {"stage": "ResponseComplete", "verb": "update", "requestReceivedTimestamp": at}
        return json.dumps({**told, "user": user, "objectRef": target, "responseStatus": {"code": 200}}) + "\n"

    folder = minicluster / "run"
    (folder / "audit-2026-01-01T00-02-30.000.log").write_text(line(1, "too early") + line(2, "a"), "utf-8")
    (folder / "audit.log").write_text(line(3, "b") + line(4, "c")[:-9], "utf-8")
    began = datetime(2026, 1, 1, 0, 2, tzinfo=UTC)
    calls = api_calls.of_operator("betting", began, began + timedelta(hours=1))
    assert [each.pod for each in calls] == ["a", "b"]
    old = folder / "audit-2025-12-31T00-00-00.000.log"
    old.write_text("of another day", "utf-8")
    os.utime(old, (began.timestamp() - 86_400,) * 2)
    assert len(api_calls.of_operator("betting", began, began + timedelta(hours=1))) == 2


@pytest.fixture
def minicluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a minicluster that is up and is used."""
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(tools, "CLUSTER", tmp_path)
    monkeypatch.setattr(api_calls, "LOG", tmp_path / "run" / "audit.log")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    return tmp_path


@pytest.mark.usefixtures("minicluster")
@pytest.mark.parametrize("found", [[], [10, 11]])
def test_a_process_that_the_minicluster_must_have_is_no_reason_to_skip(found: list[int]) -> None:
    tools.require_signals(lambda: [10], "operator-a")
    with pytest.raises(Failed, match=f"{len(found)} processes of operator-a on this machine, not one"):
        tools.require_signals(lambda: found, "operator-a")
    with pytest.raises(Failed, match="writes no audit log"):
        api_calls.of_operator("betting", api_calls.now(), api_calls.now())


@pytest.mark.usefixtures("minicluster")
def test_what_needs_signals_is_skipped_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/somewhere/else")
    tools.require_signals(lambda: [10], "operator-a")
    with pytest.raises(Skipped, match="the nodes are somewhere else"):
        tools.require_signals(list, "operator-a")
    with pytest.raises(Skipped, match="only the minicluster has it"):
        api_calls.of_operator("betting", api_calls.now(), api_calls.now())
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(Skipped, match="need root"):
        tools.require_signals(lambda: [10], "operator-a")


class SteadyLoad:
    """Bettors whose bets of each phase were these."""

    def __init__(self, *attempts: Attempt) -> None:
        self.phases = 0
        self._attempts = attempts

    @contextmanager
    def phase(self) -> Iterator[list[bettors.Bets]]:
        self.phases += 1
        figures: list[bettors.Bets] = []
        yield figures
        figures.append(judged(*self._attempts))


@pytest.fixture
def proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program itself, which finds no kubectl, and writes what it saw to a folder of the test."""
    spec = importlib.util.spec_from_file_location("e2e_program", Path(tools.__file__).with_name("__main__.py"))
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    monkeypatch.setattr(program, "RESULTS", tmp_path)
    monkeypatch.setattr(cluster_under_test, "RESULTS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    return program


def run_one(proof: Any, load: SteadyLoad, scenario: Scenario) -> Result:
    found: Result = proof._run(scenario, Scene(Installed(), cast("Any", load), IMAGES), Report())
    return found


REFUSED = Attempt(0, 5.0, 5.1, "SHARD_FROZEN", 1, "key", True)
IMAGES = Images("localhost/betting:1", "localhost/betting:2", "localhost/betting:3")


def nothing(_: Scene) -> Facts:
    """Nothing is done"""
    return Facts()


def not_here(_: Scene) -> None:
    raise Skipped("the nodes are somewhere else")


def test_what_cannot_be_shown_is_skipped_before_anybody_bets(proof: Any) -> None:
    load = SteadyLoad(REFUSED)
    found = run_one(proof, load, Scenario("drain", nothing, require=not_here))
    assert (found.skipped, found.failed, found.bets, load.phases) == ("the nodes are somewhere else", [], None, 0)


@pytest.mark.parametrize("error", [Skipped("too late"), Failed("a pod is missing"), KeyError("status")])
def test_bets_are_judged_however_a_scenario_ends(proof: Any, error: Exception) -> None:
    def fails(_: Scene) -> Facts:
        """It fails"""
        raise error

    found = run_one(proof, SteadyLoad(REFUSED), Scenario("drain", fails))
    first, second = found.failed
    assert str(error) in first
    assert "SHARD_FROZEN" in second
    assert not found.skipped
    assert found.bets is not None


def test_a_skipped_scenario_is_a_problem_unless_that_is_allowed() -> None:
    results = [Result("operator", "", skipped="the nodes are somewhere else")]
    evidence = Evidence(12_000, 0, {}, "", 54)
    assert Report(results, evidence).problems() == ["operator was skipped: the nodes are somewhere else"]
    assert Report(results, evidence, skips_allowed=True).problems() == []


def test_a_run_holds_only_with_evidence() -> None:
    fine = Evidence(12_000, 0, {}, "", 54)
    cases: list[tuple[Report, str]] = [
        (Report(), "the journal was not asked"),
        (Report(evidence=Evidence(12_000, 1, {}, "", 54)), "1 acknowledged bets are not in the journal"),
        (Report(evidence=Evidence(12_000, 0, {}, "money was made up", 54)), "the audit does not hold"),
        (Report(evidence=Evidence(9_999, 0, {}, "", 54), whole=True), "at least 10,000"),
        (Report([Result("drain", "", failed=["a bet was refused"])], fine), "drain: a bet was refused"),
    ]
    for report, words in cases:
        assert [words in each for each in report.problems()] == [True], words
    assert Report([Result("drain", "")], fine, whole=True).problems() == []


Json = dict[str, Any]
HERE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


class Archive:
    """An OCI archive in the making."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    def put(self, content: bytes | Json) -> Json:
        """Adds a blob; returns its descriptor."""
        packed = content if isinstance(content, bytes) else json.dumps(content).encode()
        digest = hashlib.sha256(packed).hexdigest()
        self.blobs[f"blobs/sha256/{digest}"] = packed
        return {"digest": f"sha256:{digest}", "size": len(packed)}

    def image(self, layer: bytes = b"a layer") -> Json:
        """Adds an image; returns the descriptor of its manifest."""
        config = self.put({"config": {"Env": ["A=b"]}, "rootfs": {"diff_ids": ["sha256:0"]}})
        return self.put({"config": config, "layers": [self.put(layer)]})

    def write(self, path: Path, descriptor: Json, annotations: dict[str, str]) -> Path:
        """With an index of that one descriptor."""
        index = {"manifests": [{**descriptor, "annotations": annotations}]}
        with tarfile.open(path, "w") as archive:
            for name, content in {**self.blobs, "index.json": json.dumps(index).encode()}.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        return path


NAME = "localhost/betting:1.2.3"
BUILDAHS = {variants.REF_NAME: NAME}
DOCKERS = {variants.WHOLE_NAME: NAME, variants.REF_NAME: "1.2.3"}


def by_buildah(path: Path) -> Path:
    archive = Archive()
    return archive.write(path, archive.image(), BUILDAHS)


def by_docker(path: Path) -> Path:
    """`docker save`."""
    archive = Archive()
    return archive.write(path, archive.image(), DOCKERS)


def by_docker_with_containerds_store(path: Path) -> Path:
    """`docker save` where docker keeps images in containerd: an index of platforms, with attestations."""
    archive = Archive()

    def of(architecture: str, system: str = "linux") -> Json:
        return {**archive.image(architecture.encode()), "platform": {"os": system, "architecture": architecture}}

    platforms = archive.put({"manifests": [of("s390x"), of("unknown", "unknown"), of(HERE)]})
    return archive.write(path, platforms, DOCKERS)


@pytest.mark.parametrize("build", [by_buildah, by_docker, by_docker_with_containerds_store])
def test_the_archive_gets_one_image_with_a_migration_more_and_one_that_crashes(
    build: Callable[[Path], Path], tmp_path: Path
) -> None:
    """Every digest and size is that of what the archive has under it."""
    images = variants.add(build(tmp_path / "built.tar"), tmp_path / "all.tar")
    assert images == Images(current=NAME, other=f"{NAME}-other", crashing=f"{NAME}-crashing")
    with tarfile.open(tmp_path / "all.tar") as archive:
        content = {each.name: archive.extractfile(each).read() for each in archive if each.isfile()}  # type: ignore[union-attr]
    with tarfile.open(tmp_path / "built.tar") as archive:
        built = json.load(archive.extractfile("index.json"))["manifests"]  # type: ignore[arg-type]
    current, other, crashing = json.loads(content["index.json"])["manifests"]
    assert [current] == built
    for entry, tag in ((other, "1.2.3-other"), (crashing, "1.2.3-crashing")):
        names = {variants.WHOLE_NAME: f"localhost/betting:{tag}", variants.REF_NAME: tag}
        assert entry["annotations"] == names

    def blob(descriptor: Json) -> bytes:
        found = content[f"blobs/{descriptor['digest'].replace(':', '/')}"]
        assert descriptor["digest"] == f"sha256:{hashlib.sha256(found).hexdigest()}"
        assert descriptor["size"] == len(found)
        return found

    def files_and_environment(entry: Json) -> tuple[list[str], list[str]]:
        manifest = json.loads(blob(entry))
        config = json.loads(blob(manifest["config"]))
        first, layer = (blob(each) for each in manifest["layers"])
        assert first in (b"a layer", HERE.encode())
        assert config["rootfs"]["diff_ids"] == ["sha256:0", f"sha256:{hashlib.sha256(layer).hexdigest()}"]
        with tarfile.open(fileobj=io.BytesIO(layer)) as files:
            return [each.name for each in files], config["config"]["Env"]

    assert files_and_environment(crashing) == (["broken/sitecustomize.py"], ["A=b", "PYTHONPATH=/broken"])
    files, environment = files_and_environment(other)
    assert environment == ["A=b"]
    assert "opt/betting/lib/python3.11/site-packages/betting/journal/migrations/9999.next.sql" in files


@pytest.mark.parametrize(
    ("annotations", "named"), [({variants.REF_NAME: "1.2.3"}, "'1.2.3'"), ({}, "''"), ({"x": "y/z:1"}, "''")]
)
def test_an_image_without_a_whole_name_is_refused(annotations: dict[str, str], named: str, tmp_path: Path) -> None:
    """helm would get the tag for a registry."""
    archive = Archive()
    built = archive.write(tmp_path / "built.tar", archive.image(), annotations)
    with pytest.raises(Failed, match=f"{named} is not the whole name of an image"):
        variants.add(built, tmp_path / "all.tar")


def test_images_of_other_machines_alone_are_refused(tmp_path: Path) -> None:
    archive = Archive()
    other = {**archive.image(), "platform": {"os": "linux", "architecture": "s390x"}}
    built = archive.write(tmp_path / "built.tar", archive.put({"manifests": [other]}), DOCKERS)
    with pytest.raises(Failed, match=f"no image for linux/{HERE}: linux/s390x"):
        variants.add(built, tmp_path / "all.tar")


def test_an_archive_of_another_kind_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "built.tar", "w"):
        pass
    with pytest.raises(Failed, match="no OCI archive"):
        variants.add(tmp_path / "built.tar", tmp_path / "all.tar")


# Tells its parent by a signal that it has begun, and takes its time to clean up when it is to end.
CLEANS_UP = """
import os, pathlib, signal, sys, time

def end(*_):
    time.sleep(0.5)
    pathlib.Path(sys.argv[1]).touch()
    sys.exit(1)

signal.signal(signal.SIGTERM, end)
os.kill(os.getppid(), signal.SIGUSR1)
while True:
    time.sleep(60)
"""


def test_an_interrupted_command_has_cleaned_up_before_the_proof_goes_on(tmp_path: Path) -> None:
    """A cluster that was half up must be gone."""
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            tools.show(sys.executable, "-c", CLEANS_UP, tmp_path / "clean")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (tmp_path / "clean").exists()


def test_a_command_that_fails_is_named() -> None:
    with pytest.raises(Failed, match="false ended with code 1"):
        tools.show("false")
