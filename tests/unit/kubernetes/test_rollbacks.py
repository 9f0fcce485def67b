"""A Deployment whose new template does not work keeps the one before, until the spec asks for yet another one."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import platforms
import pytest
from statuses import WELL, conditions_of, message_of, status_of

from betting_operator.kubernetes import rollbacks
from betting_operator.kubernetes.manifests import Manifest
from betting_operator.kubernetes.reconcile import Facts, Key, Objects, Observed, Plan, key_of, plan, template_of
from betting_operator.kubernetes.rollbacks import ROLLED_BACK_ANNOTATION, RolledOut
from betting_operator.kubernetes.spec import Platform
from betting_operator.kubernetes.workloads import PROCESSES, WORKLOADS

BETS, GATEWAY, REPLAY = (Key("Deployment", f"demo-{each}") for each in ("bet-service", "api-gateway", "season-replay"))
BETS_WAVE = WORKLOADS["bet-service"].wave
FACTS = replace(WELL, formats=(1,))
BAD_IMAGE = {"image": {"repository": "localhost/betting", "tag": "2.0.0"}}
FEED: dict[str, Any] = {"feeds": {"seasonReplay": {}}}


class Cluster:
    """What is there of a platform, round by round. The new pods of bet-service crash once they are of `bad`."""

    def __init__(self) -> None:
        self.objects: dict[Key, Manifest] = {}
        self.replica_sets: list[Manifest] = []
        self.bad: set[str] = set()
        self.plan = Plan((), (), ())

    def round(self, wanted: Platform, facts: Facts | None = FACTS) -> None:
        """Applies what is planned, and lets controllers do their work."""
        observed = Observed(self.objects, facts=facts, replica_sets=tuple(self.replica_sets))
        self.plan = plan(wanted, observed, platforms.new_password)
        for each in self.plan.apply:
            self._apply(each)

    def rounds(self, wanted: Platform, facts: Facts | None = FACTS) -> None:
        """Until nothing changes any more."""
        for _ in range(8):
            self.round(wanted, facts)

    def ask(self) -> None:
        """The healer says that the present template does not work."""
        self.bets["metadata"]["annotations"][ROLLED_BACK_ANNOTATION] = template_of(self.bets)

    @property
    def bets(self) -> Manifest:
        return self.objects[BETS]

    @property
    def image(self) -> str:
        return rollbacks.image_of(self.bets["spec"]["template"])

    def names_with(self, image: str) -> set[str]:
        """The Deployments whose pods have this image."""
        deployments = (each for each in self.objects.values() if each["kind"] == "Deployment")
        return {e["metadata"]["name"] for e in deployments if rollbacks.image_of(e["spec"]["template"]) == image}

    def _apply(self, manifest: Manifest) -> None:
        key = key_of(manifest)
        crashes = key == BETS and template_of(manifest) in self.bad
        found = platforms.live(manifest, **({"updatedReplicas": 1, "availableReplicas": 2} if crashes else {}))
        found["metadata"]["uid"] = key.name
        if key.kind == "Deployment" and template_of(found) not in map(rollbacks.template_of, self._sets_of(key)):
            template = copy.deepcopy(found["spec"]["template"])
            template["metadata"]["labels"]["pod-template-hash"] = "5d4f8c7b9"
            owner = {"ownerReferences": [{"uid": key.name}]}
            self.replica_sets.append({"kind": "ReplicaSet", "metadata": owner, "spec": {"template": template}})
        self.objects[key] = found

    def _sets_of(self, key: Key) -> list[Manifest]:
        return [e for e in self.replica_sets if e["metadata"]["ownerReferences"][0]["uid"] == key.name]


def broken(**bad: Any) -> tuple[Cluster, Platform]:
    """A platform that ran well, and then got a spec with which bet-service crashes."""
    cluster, wanted = Cluster(), platforms.platform(**bad)
    cluster.rounds(platforms.platform(**{field: value for field, value in bad.items() if field == "feeds"}))
    probe = Cluster()
    probe.objects = dict(cluster.objects)
    probe.rounds(wanted)
    cluster.bad.add(template_of(probe.bets))
    cluster.rounds(wanted)
    assert template_of(cluster.bets) in cluster.bad
    return cluster, wanted


def _status(objects: Objects, wanted: Platform, **more: Any) -> dict[str, Any]:
    return status_of(dict(objects), platform=wanted, facts=FACTS, before={"image": "localhost/betting:1.0.0"}, **more)


def test_a_template_that_does_not_work_is_replaced_by_the_one_before_and_stays_so() -> None:
    """The very template: its pods, which still run, are kept. Round after round nothing else is applied."""
    cluster, wanted = broken(**BAD_IMAGE)
    bad, before = template_of(cluster.bets), rollbacks.rolled_out(cluster.bets)[-1].template
    assert cluster.image == "localhost/betting:2.0.0"
    cluster.ask()
    cluster.round(wanted)
    assert (template_of(cluster.bets), cluster.image) == (before, "localhost/betting:1.0.0")
    assert "pod-template-hash" not in cluster.bets["spec"]["template"]["metadata"]["labels"]
    assert rollbacks.rolled_back_from(cluster.bets) == bad
    applied = cluster.plan.apply
    cluster.rounds(wanted)
    assert next(e for e in applied if key_of(e) == BETS) == next(e for e in cluster.plan.apply if key_of(e) == BETS)


def test_what_rolled_before_it_keeps_the_new_version_and_what_rolls_after_it_waits() -> None:
    """Round after round, and whatever else the spec changes meanwhile that gives bet-service no other template."""
    cluster, wanted = broken(**BAD_IMAGE, **FEED)
    cluster.ask()
    cluster.rounds(wanted)
    new = {f"demo-{each.name}" for each in PROCESSES if each.wave < BETS_WAVE}
    assert cluster.names_with("localhost/betting:2.0.0") == new
    assert cluster.names_with("localhost/betting:1.0.0") == {BETS.name, GATEWAY.name, REPLAY.name}
    waits = tuple(f"{key.name} waits: demo-bet-service was rolled back" for key in (GATEWAY, REPLAY))
    assert cluster.plan.waits == waits
    more = platforms.platform(
        **BAD_IMAGE, **FEED, services={"apiGateway": {"settings": {"BETTING_LOG_LEVEL": "debug"}}}
    )
    cluster.rounds(more)
    assert (cluster.names_with("localhost/betting:2.0.0"), cluster.plan.waits) == (new, waits)


def test_what_has_rolled_after_it_stays_too() -> None:
    """The version crashed late: its pods were available, and the waves after it rolled."""
    cluster, wanted = Cluster(), platforms.platform(**BAD_IMAGE)
    cluster.rounds(platforms.platform())
    cluster.rounds(wanted)
    cluster.ask()
    cluster.rounds(wanted)
    assert cluster.names_with("localhost/betting:1.0.0") == {BETS.name}
    assert cluster.plan.waits == ()
    assert "demo-api-gateway keep image localhost/betting:2.0.0" in message_of(
        _status(cluster.objects, wanted), "RolledOut"
    )


def test_what_waits_rolls_once_the_spec_gives_the_service_another_template() -> None:
    cluster, wanted = broken(**BAD_IMAGE, **FEED)
    cluster.ask()
    cluster.rounds(wanted)
    cluster.rounds(platforms.platform(image={"repository": "localhost/betting", "tag": "2.0.1"}, **FEED))
    assert cluster.names_with("localhost/betting:2.0.1") == {
        each.name for each in cluster.objects if each.kind == BETS.kind
    }


def test_the_status_says_what_was_rolled_back_what_keeps_the_new_version_and_what_waits() -> None:
    cluster, wanted = broken(**BAD_IMAGE)
    cluster.ask()
    cluster.rounds(wanted)
    found = _status(cluster.objects, wanted)
    assert conditions_of(found)["RolledOut"] == ("False", "RolledBack")
    assert message_of(found, "RolledOut") == (
        "demo-bet-service was rolled back by the healer, its pods crashed: image localhost/betting:2.0.0 is not used,"
        " localhost/betting:1.0.0 is; correct the version or setting (docs/operator/upgrade.md);"
        " demo-health-monitor, demo-user-service, demo-wallet-service, demo-event-service, demo-odds-service,"
        " demo-settlement-service, demo-notification-service keep image localhost/betting:2.0.0;"
        " demo-api-gateway waits: demo-bet-service was rolled back"
    )
    assert (found["phase"], found["image"]) == ("Degraded", "localhost/betting:1.0.0")


def test_a_setting_that_does_not_work_is_named() -> None:
    bad = {"services": {"betService": {"settings": {"BETTING_LOG_LEVEL": "debug"}}}}
    cluster, wanted = broken(**bad)
    cluster.ask()
    cluster.rounds(wanted)
    message = message_of(_status(cluster.objects, wanted), "RolledOut")
    assert "its settings of before are used: BETTING_LOG_LEVEL" in message
    assert "keep image" not in message, "there is one image"


def test_another_spec_is_rolled_out_and_nothing_of_the_roll_back_is_left() -> None:
    """Also the one that did not work, when a person asks for it again after that."""
    cluster, wanted = broken(**BAD_IMAGE)
    cluster.ask()
    cluster.rounds(wanted)
    corrected = platforms.platform(image={"repository": "localhost/betting", "tag": "2.0.1"})
    cluster.rounds(corrected)
    assert cluster.image == "localhost/betting:2.0.1"
    assert ROLLED_BACK_ANNOTATION not in cluster.bets["metadata"]["annotations"]
    assert conditions_of(_status(cluster.objects, corrected))["RolledOut"] == ("True", "RolledOut")
    cluster.bad.clear()
    cluster.rounds(wanted)
    assert cluster.image == "localhost/betting:2.0.0"


def test_going_back_in_the_spec_restarts_no_pod_of_before() -> None:
    cluster, wanted = broken(**BAD_IMAGE)
    before = next(e for e in cluster.replica_sets if e["metadata"]["ownerReferences"][0]["uid"] == BETS.name)
    cluster.ask()
    cluster.rounds(wanted)
    cluster.rounds(platforms.platform())
    template = copy.deepcopy(before["spec"]["template"])
    del template["metadata"]["labels"]["pod-template-hash"]
    assert cluster.bets["spec"]["template"] == template
    assert ROLLED_BACK_ANNOTATION not in cluster.bets["metadata"]["annotations"]


def test_a_template_that_was_rolled_out_and_did_not_work_is_never_gone_back_to() -> None:
    """Its pods were available for a moment, and crashed later."""
    cluster = Cluster()
    cluster.rounds(platforms.platform())
    second = platforms.platform(**BAD_IMAGE)
    cluster.rounds(second)
    assert len(rollbacks.rolled_out(cluster.bets)) == 2
    bad = template_of(cluster.bets)
    cluster.ask()
    cluster.rounds(second)
    cluster.rounds(platforms.platform(image={"repository": "localhost/betting", "tag": "3.0.0"}))
    found, _set = rollbacks.earlier(cluster.bets, cluster.replica_sets)
    assert found is not None
    assert found.template != bad


def test_a_roll_back_from_a_template_that_nobody_has_any_more_is_dropped() -> None:
    cluster, wanted = broken(**BAD_IMAGE)
    cluster.ask()
    cluster.replica_sets.clear()
    cluster.round(wanted)
    assert cluster.image == "localhost/betting:2.0.0"
    assert rollbacks.rolled_back_from(cluster.bets) == ""


def test_without_the_database_nothing_is_noted() -> None:
    """What the version knows of it cannot be told."""
    cluster = Cluster()
    cluster.rounds(platforms.platform(), facts=None)
    assert rollbacks.rolled_out(cluster.bets) == ()


BEFORE = RolledOut("a", "0005.x", (1,))
OLD = frozenset({"0001.a", "0005.x"})


@pytest.mark.parametrize(
    ("migrations", "compatible", "read", "why"),
    [
        pytest.param(OLD, {}, (1,), "", id="nothing moved"),
        pytest.param(OLD | {"0006.y"}, {}, (1,), "the database has migration 0006.y", id="migrated"),
        pytest.param(OLD | {"0006.y"}, {"0006.y": "0005.x"}, (1,), "", id="migrated compatibly"),
        pytest.param(OLD | {"0006.y"}, {"0006.y": "0006.x"}, (1,), "migration 0006.y", id="compatible with later ones"),
        pytest.param(OLD, {}, (1, 2), "format 2 may have been written", id="all read a new format"),
        pytest.param(OLD, {}, (), "cannot be told", id="nobody runs"),
    ],
)
def test_a_version_runs_again_only_where_no_format_has_moved(
    migrations: frozenset[str], compatible: dict[str, str], read: tuple[int, ...], why: str
) -> None:
    found = rollbacks.why_moved(BEFORE, migrations, compatible, read)
    assert why in found
    assert bool(why) == bool(found)


def test_a_note_that_nobody_wrote_is_none() -> None:
    """Somebody has edited it by hand."""
    for text in ("{", "[1]", '[["a"]]', '{"a": 1}', "null"):
        found = {"metadata": {"annotations": {rollbacks.ROLLED_OUT_ANNOTATION: text}}}
        assert rollbacks.rolled_out(found) == ()
