"""New versions, more and fewer pods, under load: shards move before a pod stops, so no bettor is refused."""

from __future__ import annotations

import json
import time
from collections import Counter

import asyncpg
from platform_under_test import Installed, seconds_since
from scene import SAID_S, Facts, Scenario, Scene
from tools import expect, got, helm, kubectl, say, stays, wait_for
from variants import NEXT_MIGRATION

from betting.journal import directory

# The waves before bet-service are rolled first.
FIRST_CRASH_S = 240.0


def epochs(platform: Installed) -> dict[int, int]:
    """The epoch of every shard: it goes up by one whenever the shard changes hands."""

    async def ask(connection: asyncpg.Connection) -> dict[int, int]:
        return {row.shard: row.epoch for row in await directory.shards(connection)}

    return platform.ask(ask)


def shares(platform: Installed) -> Counter[str]:
    """How many shards each bet-service pod owns."""

    async def ask(connection: asyncpg.Connection) -> Counter[str]:
        return Counter(row.owner for row in await directory.shards(connection) if row.owner is not None)

    return platform.ask(ask)


def moves(before: dict[int, int], after: dict[int, int]) -> int:
    """How often shards changed hands between two looks."""
    return sum(after[shard] - before[shard] for shard in before)


def roll(scene: Scene) -> Facts:
    """Another image by spec.image, whose schema is newer, and back to the operator's own

    kubectl patch bp/demo --type=merge --patch='{"spec": {"image": {"repository": …, "tag": …}}}'
    """
    platform, images = scene.platform, scene.images
    before = epochs(platform)
    platform.use_image(images.other)
    there_s = platform.wait_rolled_out(images.other)
    say(f"every pod runs {images.other} after {there_s:.0f} s")
    schema = platform.condition("DatabaseReady")["message"]
    expect(NEXT_MIGRATION in schema, f"the migration of {images.other} is not applied: {schema}")
    middle = epochs(platform)
    platform.use_image("")
    back_s = platform.wait_rolled_out(images.current)
    return {
        "there_s": round(there_s, 1),
        "back_s": round(back_s, 1),
        "shard_moves_there": moves(before, middle),
        "shard_moves_back": moves(middle, epochs(platform)),
    }


def upgrade(scene: Scene) -> Facts:
    """The chart upgraded to another image, operator and platform, and rolled back

    helm upgrade betting charts/betting-platform --set=image.tag=… --reuse-values; helm rollback betting
    """
    platform, images = scene.platform, scene.images
    began_s = time.monotonic()
    platform.upgrade_operator(images.other)
    platform.wait_rolled_out(images.other)
    upgraded_s = seconds_since(began_s)
    say(f"operator and platform run {images.other} after {upgraded_s:.0f} s")
    began_s = time.monotonic()
    helm("rollback", platform.release, f"--namespace={platform.namespace}", "--wait", "--timeout=3m")
    platform.wait_rolled_out(images.current)
    return {"upgraded_s": upgraded_s, "rolled_back_s": seconds_since(began_s)}


def missing_image(scene: Scene) -> Facts:
    """An image that does not exist: nothing is rolled, a condition names it, and going back is all it takes"""
    platform, images = scene.platform, scene.images
    before = {each["metadata"]["name"] for each in platform.pods("bet-service")}
    platform.use_image(images.missing)

    def is_named() -> bool:
        conditions = platform.status().get("conditions", ())
        return any(images.missing in each["message"] and each["status"] == "False" for each in conditions)

    told_s = wait_for("a condition names the image", is_named, SAID_S, platform.why)
    say(f"after {told_s:.0f} s: {platform.why()[:300]}")
    why = platform.why()
    expect("RolledOut=" in why, f"RolledOut is True with an image that does not exist: {why}")
    stays(
        "the old pods serve", lambda: before <= {each["metadata"]["name"] for each in platform.pods("bet-service")}, 5
    )
    platform.use_image("")
    back_s = platform.wait_rolled_out(images.current)
    return {"told_after_s": round(told_s, 1), "back_s": round(back_s, 1), "told": why[:500]}


def crashing_image(scene: Scene) -> Facts:
    """An image whose bet-service crashes: the roll stops with the old pods serving, RolledOut says why; then back"""
    platform, images = scene.platform, scene.images
    before = shares(platform)
    platform.use_image(images.crashing)

    def is_stuck() -> bool:
        return platform.condition("RolledOut").get("reason") == "RollStuck"

    def has_crashed() -> bool:
        pods = platform.pods("bet-service")
        new = [pod for pod in pods if pod["spec"]["containers"][0]["image"] == images.crashing]
        containers = [each for pod in new for each in pod["status"].get("containerStatuses", ())]
        return any(each["restartCount"] or "terminated" in each["state"] for each in containers)

    # Kubernetes itself would say it after the Deployment's progress deadline (180 s).
    wait_for("the new bet-service has crashed once", has_crashed, FIRST_CRASH_S, platform.why)
    told_s = wait_for("RolledOut=False RollStuck", is_stuck, SAID_S, platform.why)
    message = platform.condition("RolledOut")["message"]
    say(f"after {told_s:.0f} s: {message[:300]}")
    expect("bet-service" in message, f"RollStuck does not name bet-service: {message}")
    expect("exit code 1: bet-service of this image cannot start" in message, f"it does not say how it ended: {message}")
    expect(platform.is_true("ShardsOwned", "Available"), f"the old version does not serve: {platform.why()}")
    after = shares(platform)
    expect(set(after) == set(before), f"shards are with {sorted(after)}, not with the old pods {sorted(before)}")
    platform.use_image("")
    back_s = platform.wait_rolled_out(images.current)
    return {"told_after_s": round(told_s, 1), "back_s": round(back_s, 1), "told": message[:500]}


def scale(scene: Scene) -> Facts:
    """bet-service from two pods to three and back: kubectl scale bp/demo --replicas=3"""
    platform = scene.platform

    def scale_to(count: int) -> float:
        began_s = time.monotonic()
        kubectl("scale", f"bettingplatform/{platform.name}", f"--namespace={platform.namespace}", f"--replicas={count}")

        def shared_out() -> bool:
            owned = shares(platform)
            return len(owned) == count and max(owned.values()) - min(owned.values()) <= 1 and bool(gone())

        def gone() -> bool:
            return len(platform.pods("bet-service")) == count and platform.is_true("Ready", "RolledOut")

        wait_for(f"{count} pods share the shards", shared_out, 120.0, lambda: f"{dict(shares(platform))}")
        return seconds_since(began_s)

    return {"up_s": scale_to(3), "down_s": scale_to(2)}


def rebalance(scene: Scene) -> Facts:
    """A bet-service emptied by a ShardRebalance, kept empty, and given its share back when that is deleted

    kubectl apply --filename=… ; kubectl wait --for=condition=Complete shardrebalance/emptied
    """
    platform = scene.platform
    at = f"--namespace={platform.namespace}"
    before = shares(platform)
    owner = max(before, key=lambda life: (before[life], life))
    manifest = {
        "apiVersion": "selfhealing.bet/v1alpha1",
        "kind": "ShardRebalance",
        "metadata": {"name": "emptied"},
        "spec": {"platform": platform.name, "reason": "make e2e", "drain": [owner.partition("@")[0]]},
    }
    began_s = time.monotonic()
    kubectl("apply", at, "--filename=-", sent=json.dumps(manifest))
    kubectl("wait", at, "--for=condition=Complete", "shardrebalance/emptied", "--timeout=100s")
    emptied_s = seconds_since(began_s)
    status = got("shardrebalance", "emptied", at)["status"]
    counts = (status["done"], status["total"])
    expect(counts == (before[owner],) * 2, f"{counts} of the moves of {before[owner]} shards: {status['message']}")
    stays(f"{owner} owns nothing", lambda: owner not in shares(platform), 5.0)
    kubectl("delete", at, "shardrebalance/emptied")
    back_s = wait_for(
        f"{owner} has its share again",
        lambda: abs(shares(platform)[owner] - before[owner]) <= 1,
        60.0,
        lambda: f"{dict(shares(platform))}",
    )
    return {
        "emptied_s": emptied_s,
        "back_s": round(back_s, 1),
        "shards": before[owner],
        "estimated_s": status["plan"]["cost"]["seconds"],
    }


def autoscaling(scene: Scene) -> Facts:
    """With an autoscaler on bet-service, operator and autoscaler do not fight over the number of pods"""
    platform = scene.platform
    at = f"--namespace={platform.namespace}"
    deployment = f"{platform.name}-bet-service"
    seen: list[int] = []

    def replicas() -> int:
        seen.append(got("deployment", deployment, at)["spec"]["replicas"])
        return seen[-1]

    bounds = {"minReplicas": 3, "maxReplicas": 4, "cpuPercent": 1_000, "memoryPercent": 1_000}
    platform.change(services={"betService": {"autoscaling": bounds}})
    up_s = wait_for("the autoscaler asks for its least number of pods, 3", lambda: replicas() == 3, 90.0, platform.why)
    platform.wait_rolled_out()
    generation = got("deployment", deployment, at)["metadata"]["generation"]
    stays("3 pods are asked for", lambda: replicas() == 3, 20.0)
    wrote = got("deployment", deployment, at)["metadata"]["generation"] - generation
    expect(wrote == 0, f"the Deployment was written {wrote} times in 20 s at rest: somebody fights over it")
    platform.change(services={"betService": {"autoscaling": None}})
    back_s = wait_for("spec.replicas, 2, is back", lambda: replicas() == 2, 60.0, platform.why)
    platform.wait_rolled_out()
    changes = [count for number, count in enumerate(seen) if number == 0 or seen[number - 1] != count]
    expect(changes == [2, 3, 2], f"the number of pods went {changes}, not 2, 3, 2")
    return {"up_s": round(up_s, 1), "back_s": round(back_s, 1)}


SCENARIOS = (
    Scenario("roll", roll, core=True),
    Scenario("upgrade", upgrade),
    Scenario("missing-image", missing_image),
    Scenario("crashing-image", crashing_image),
    Scenario("scale", scale, core=True),
    Scenario("rebalance", rebalance),
    Scenario("autoscaling", autoscaling),
)
