"""What the healer reports for people: every change once, and the alerts that stand as long as they stand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from healing_scenes import Scenario, calm, life, over

from betting.cli import status_lines
from betting.cli.screen import screen
from betting.embedded.overview import Overview
from betting.health import merge
from betting.health.observations import MonitoredInstance, PlatformSnapshot, Probe, ProbeResult
from betting.supervision.state import PlatformState
from betting.v1 import health_pb2
from betting_operator.healer.reporting import ALERTS_SHOWN, Reporter, alert_lines
from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.flight import Record
from betting_operator.healing.plan import Declined, Plan
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Host, Observation, Report

HEALER = MonitoredInstance("healer", "127.0.0.1:7020")
_TOLD = health_pb2.InstanceStatus(workload="healer", instance="healer", boot_id="1")


def reported(ticks: Iterable[Observation]) -> list[str]:
    """The lines about these ticks."""
    scenario, reporter, lines = Scenario(), Reporter(), []
    for seen in ticks:
        tick = scenario.live(seen)
        lines += reporter.lines(Record(0, Policy(), seen, tick.diagnoses, tick.plan))
    return lines


def stuck(seen: Observation) -> Observation:
    """One caller of the wallet gets no answer; another gets one every two and a half seconds, from memory."""
    wallet = life("wallet-service")
    waits = Report("api-gateway", wallet, 5, seen.at_ms, None)
    served = Report("health-monitor", wallet, 0, 0, seen.at_ms % 2_500)
    return replace(seen, reports=(waits, served))


def test_a_verdict_that_goes_to_and_fro_is_reported_once_each_way() -> None:
    """Suspected and cannot-tell alternate with every reply to the other caller for a minute."""
    lines = reported([*over(60_000, stuck), calm(60_500)])
    found = [line.split(" (")[0] for line in lines if not line.startswith("not done")]
    assert sorted(found[:-1]) == ["cannot-tell: process-hung wallet-service", "suspected: process-hung wallet-service"]
    assert found[-1] == "over: process-hung wallet-service"
    assert len([line for line in lines if line.startswith("not done")]) <= 2


def test_a_verdict_is_reported_again_after_it_was_confirmed() -> None:
    """Confirmed is another thing: what follows it is news."""
    reporter, lines = Reporter(), []
    for certainty in (Certainty.SUSPECTED, Certainty.CONFIRMED, Certainty.SUSPECTED, Certainty.CONFIRMED):
        found = Diagnosis(Kind.PROCESS_HUNG, "wallet-service", certainty, ("silent",))
        lines += reporter.lines(Record(0, Policy(), calm(), (found,), Plan()))
    assert [line.split(":")[0] for line in lines] == ["suspected", "confirmed", "suspected", "confirmed"]


def test_a_reason_is_reported_again_after_it_was_over() -> None:
    """Two reasons that alternate are two lines; after the diagnosis was acted on they are news again."""
    reporter, lines = Reporter(), []
    for reason in ("cool-down for 3 s", "budget", "cool-down for 2 s", "", "budget"):
        declined = (Declined(Kind.PROCESS_HUNG, "wallet-service", reason),) if reason else ()
        lines += reporter.lines(Record(0, Policy(), calm(), (), Plan(declined=declined)))
    assert [line.rpartition(": ")[2] for line in lines] == ["cool-down for 3 s", "budget", "budget"]


def full(seen: Observation, free_bytes: int = 2**20) -> Observation:
    """The disk takes nothing more, and the record cannot be written."""
    return replace(seen, host=Host(free_bytes, 0), record_problem="No space left on device (flight)")


def shown(scenario: Scenario, seen: Observation) -> health_pb2.GetPlatformStatusResponse:
    """What the status of the platform is after a tick, by the healer's own reply to health-monitor."""
    tick = scenario.live(seen)
    probe = Probe(ProbeResult.SERVING, _TOLD, alerts=alert_lines(tick.diagnoses, tick.memory.alerted))
    health = merge.after(merge.initial_health(HEALER), probe)
    return merge.status_of(PlatformSnapshot(1, (health,), (), (), 0, ("directory",), attention=merge.alerts((health,))))


def test_a_full_disk_is_in_the_status_as_long_as_it_is_full() -> None:
    """Also while nothing is read from Postgres, in later ticks than the one that alerted, on the screen too."""
    scenario = Scenario()
    for at_ms in (0, 500, 1_000):
        status = shown(scenario, full(calm(at_ms)))
        assert list(status.attention) == [
            "disk-full: disk: the disk is nearly full (1 MiB free)",
            "record-not-written: flight record: the healer's record cannot be written to disk"
            " (No space left on device (flight))",
        ], at_ms
    overview = Overview(0.0, True, PlatformState(1, 1), {}, status)
    assert any(line.startswith("for a person: disk-full") for line in status_lines.lines(overview, None))
    drawn = [str(each) for each in screen(overview, None, (), (), width=200, height=24, now_s=0.0)]
    assert any("disk-full" in line for line in drawn)
    assert not shown(scenario, calm(1_500)).attention, "it is over"


def test_the_alerts_of_a_healer_that_cannot_be_reached_are_not_shown() -> None:
    """Nobody knows whether they still stand; that it is away is shown by itself."""
    told = merge.after(merge.initial_health(HEALER), Probe(ProbeResult.SERVING, _TOLD, alerts=("disk-full: disk",)))
    assert merge.alerts((told, told)) == ("disk-full: disk",)
    assert merge.alerts((merge.after(told, Probe(ProbeResult.SILENT)),)), "one late answer is no news"
    assert not merge.alerts((merge.after(told, Probe(ProbeResult.REFUSED)),))


def test_the_most_urgent_alerts_are_shown_and_the_rest_counted() -> None:
    """A shard that is stopped has a line in the status already."""
    many = [Diagnosis(Kind.OVERLOADED, f"gateway-{n}", Certainty.CONFIRMED, ("late",)) for n in range(ALERTS_SHOWN)]
    page = Diagnosis(Kind.DISK_FULL, "disk", Certainty.CONFIRMED, ("1 MiB free",))
    shard = Diagnosis(Kind.SHARD_STOPPED, "shard 3", Certainty.CONFIRMED, ("frozen: books",))
    unsure = Diagnosis(Kind.OVERLOADED, "unsure", Certainty.SUSPECTED, ("late",))
    standing = [f"{each.kind} {each.target}" for each in (*many, page, shard, unsure)]
    lines = alert_lines((*many, shard, unsure, page), standing)
    assert lines[0].startswith("disk-full: disk")
    assert len(lines) == ALERTS_SHOWN + 1
    assert lines[-1] == "1 more alerts of the healer: see betting heal log"
    assert not any("shard 3" in line or "unsure" in line for line in lines)
