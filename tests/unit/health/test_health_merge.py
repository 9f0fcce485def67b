"""From raw observations to the platform's status."""

from __future__ import annotations

import pytest

from betting.health import merge
from betting.health.observations import (
    BET_SERVICE,
    InstanceHealth,
    MonitoredInstance,
    PlatformSnapshot,
    Probe,
    ProbeResult,
    Shard,
)
from betting.internal.v1 import owner_pb2
from betting.journal.directory import InstanceRow, Observed, ShardRow
from betting.life import Life
from betting.v1 import health_pb2, odds_pb2

SERVING = health_pb2.SERVICE_STATE_SERVING
NOT_SERVING = health_pb2.SERVICE_STATE_NOT_SERVING
UNREACHABLE = health_pb2.SERVICE_STATE_UNREACHABLE
UNSPECIFIED = health_pb2.SERVICE_STATE_UNSPECIFIED

USERS = MonitoredInstance("user-service", "127.0.0.1:7001")
OWNER = MonitoredInstance(BET_SERVICE, "127.0.0.1:7101", Life(BET_SERVICE, "bet-service-1", "aa"))
TOLD = health_pb2.InstanceStatus(
    workload="user-service",
    instance="user-service",
    boot_id="0f",
    address="127.0.0.1:7001",
    state=SERVING,
    started_at_us=5,
    resident_bytes=1000,
    breakers=[health_pb2.BreakerStatus(target="odds-service", state="open", opened_total=1)],
)


def _owner_told(boot_id: str = "aa") -> health_pb2.InstanceStatus:
    return health_pb2.InstanceStatus(workload=BET_SERVICE, instance="bet-service-1", boot_id=boot_id)


def _report(epoch: int = 3, instance: str = "bet-service-1@aa") -> owner_pb2.GetOwnerStatusResponse:
    shard = owner_pb2.OwnedShard(
        shard_id=1,
        epoch=epoch,
        state="serving",
        head_sequence=10,
        open_bets=4,
        accounts=2,
        projector_lag=1,
        outbox_lag=5,
    )
    return owner_pb2.GetOwnerStatusResponse(instance=instance, shards=[shard], bets_accepted_total=7)


def test_an_instance_that_answers_is_shown_as_it_says() -> None:
    """State by the health protocol, the rest by its own diagnostics."""
    instance_health = merge.after(merge.initial_health(USERS), Probe(ProbeResult.SERVING, TOLD))
    assert merge.instance_status(instance_health) == TOLD
    draining = merge.after(instance_health, Probe(ProbeResult.NOT_SERVING, TOLD))
    assert merge.instance_status(draining).state == NOT_SERVING


def test_a_refused_connection_is_unreachable_at_once() -> None:
    """Who it was is still shown, its memory and breakers are not: nobody knows them."""
    instance_health = merge.after(merge.initial_health(USERS), Probe(ProbeResult.SERVING, TOLD))
    gone = merge.instance_status(merge.after(instance_health, Probe(ProbeResult.REFUSED)))
    assert (gone.state, gone.boot_id, gone.started_at_us) == (UNREACHABLE, "0f", 5)
    assert gone.resident_bytes == 0
    assert not gone.breakers


def test_one_late_answer_is_no_news() -> None:
    """The second in a row is; an answer in between starts the count again."""
    serving = merge.after(merge.initial_health(USERS), Probe(ProbeResult.SERVING, TOLD))
    late = merge.after(serving, Probe(ProbeResult.SILENT))
    assert late.state == SERVING
    assert merge.after(late, Probe(ProbeResult.SILENT)).state == UNREACHABLE
    back = merge.after(late, Probe(ProbeResult.SERVING, TOLD))
    assert merge.after(back, Probe(ProbeResult.SILENT)).state == SERVING


def test_somebody_never_heard_of_has_no_state_until_it_is_clear() -> None:
    """Silent once: unspecified; an instance of bet-service is named by the directory even then."""
    silent = merge.after(merge.initial_health(OWNER), Probe(ProbeResult.SILENT))
    status = merge.instance_status(silent)
    assert (status.state, status.instance, status.boot_id) == (UNSPECIFIED, "bet-service-1", "aa")


def test_an_answer_without_diagnostics_keeps_the_last_ones() -> None:
    """Serving is the health protocol's word alone."""
    instance_health = merge.after(merge.initial_health(USERS), Probe(ProbeResult.SERVING, TOLD))
    assert merge.instance_status(merge.after(instance_health, Probe(ProbeResult.SERVING))) == TOLD
    unknown = merge.instance_status(merge.after(merge.initial_health(USERS), Probe(ProbeResult.SERVING)))
    assert (unknown.state, unknown.workload, unknown.instance) == (SERVING, "user-service", "")


def test_a_life_that_has_moved_is_shown_where_it_answers() -> None:
    """Once; two lives of one instance are two, and those that never said who they are stay apart."""
    there = MonitoredInstance(USERS.workload, "127.0.0.1:7002")
    gone, here = InstanceHealth(USERS, UNREACHABLE, diagnostics=TOLD), InstanceHealth(there, SERVING, diagnostics=TOLD)
    assert merge.each_once([gone, here]) == [here]
    assert merge.each_once([here, gone]) == [here]
    next_life = InstanceHealth(
        there, SERVING, diagnostics=health_pb2.InstanceStatus(instance="user-service", boot_id="10")
    )
    assert merge.each_once([gone, next_life]) == [gone, next_life]
    nobody = [merge.initial_health(USERS), merge.initial_health(there)]
    assert merge.each_once(nobody) == nobody
    named, told = merge.initial_health(OWNER), InstanceHealth(USERS, SERVING, diagnostics=_owner_told())
    assert merge.each_once([named, told]) == [named]


def test_another_boot_at_the_same_address_is_not_the_instance_asked_for() -> None:
    """The life the directory names has ended, and what the new one owns is not what the old one owned."""
    instance_health = merge.after(merge.initial_health(OWNER), Probe(ProbeResult.SERVING, _owner_told("bb"), _report()))
    assert instance_health.state == UNREACHABLE
    assert instance_health.owner_status is None
    assert merge.instance_status(instance_health).boot_id == "aa"


@pytest.mark.parametrize(
    ("epoch", "owner", "state", "reported"),
    [
        (3, "bet-service-1@aa", SERVING, True),
        (3, "bet-service-1@aa", NOT_SERVING, True),
        (2, "bet-service-1@aa", SERVING, False),
        (3, "bet-service-1@ab", SERVING, False),
        (3, "", SERVING, False),
        (3, "bet-service-1@aa", UNREACHABLE, False),
    ],
)
def test_figures_count_for_owner_and_epoch_of_the_directory_only(
    epoch: int, owner: str, state: health_pb2.ServiceState, reported: bool
) -> None:
    """A stale owner's figures, or those of one that no longer answers, are not shown as the shard's."""
    instance_health = InstanceHealth(OWNER, state, diagnostics=_owner_told(), owner_status=_report())
    (status,) = merge.shard_statuses([Shard(1, owner, epoch, "owned")], [instance_health])
    assert (status.shard_id, status.owner, status.epoch, status.state) == (1, owner, epoch, "owned")
    assert status.reported is reported
    figures = (status.head_sequence, status.open_bets, status.accounts, status.projector_lag, status.outbox_lag)
    assert figures == ((10, 4, 2, 1, 5) if reported else (0, 0, 0, 0, 0))


def test_a_silent_owner_is_not_believed_for_long() -> None:
    """Its last figures stand for one missed answer, not for two."""
    serving = merge.after(merge.initial_health(OWNER), Probe(ProbeResult.SERVING, _owner_told(), _report()))
    once = merge.after(serving, Probe(ProbeResult.SILENT))
    twice = merge.after(once, Probe(ProbeResult.SILENT))
    shard = Shard(1, "bet-service-1@aa", 3, "owned")
    assert [merge.shard_statuses([shard], [each])[0].reported for each in (serving, once, twice)] == [True, True, False]


def _row(name: str, beat_age_s: float, *, exited: bool = False) -> InstanceRow:
    return InstanceRow(name, "127.0.0.1:1", (1,), beat_age_s, False, exited)


def test_instances_that_left_are_not_asked_unless_they_still_own() -> None:
    """Alive, or an owner in the directory's eyes: a dead owner must be shown, a long gone one not."""
    shard = ShardRow(0, "dead@1", "127.0.0.1:1", 4, "owned", None, "")
    rows = (_row("live@1", 1), _row("dead@1", 900, exited=True), _row("gone@1", 900), _row("done@1", 1, exited=True))
    watched = merge.owners(Observed((shard,), rows, None))
    assert [str(each.life) for each in watched] == ["live@1", "dead@1"]


def test_producers_are_unknown_while_nobody_tells_of_them() -> None:
    """Their last state may be long over; the observation itself is not changed."""
    producer = odds_pb2.Producer(producer_id="replay", status=odds_pb2.PRODUCER_STATUS_ALIVE)
    assert merge.producer_statuses([producer], known=True)[0].status == odds_pb2.PRODUCER_STATUS_ALIVE
    assert merge.producer_statuses([producer], known=False)[0].status == odds_pb2.PRODUCER_STATUS_UNSPECIFIED
    assert producer.status == odds_pb2.PRODUCER_STATUS_ALIVE


def test_a_picture_of_nothing_is_a_status() -> None:
    """Everything down: an answer that says so."""
    status = merge.status_of(PlatformSnapshot(9, (), (), (), 0, ("directory", "producers")))
    assert (status.at_us, list(status.unknown), len(status.shards)) == (9, ["directory", "producers"], 0)
