"""From nothing to the first settled bet, and away again with the money kept."""

from __future__ import annotations

import time

from platform_under_test import retained, seconds_since
from scene import Facts, Scenario, Scene
from tools import expect, got, helm, say, wait_for

SETTLED_MAX_S = 90.0
PHASES_S = 240.0


def install(scene: Scene) -> Facts:
    """helm install, kubectl apply, and every step until a bet is settled (at most 90 s after the apply)

    helm install betting charts/betting-platform; kubectl apply --filename=examples/platform.yaml
    """
    platform, load = scene.platform, scene.load
    platform.make_namespace()
    began_s = time.monotonic()
    platform.install_operator(scene.images.current)
    facts = Facts({"operator_ready_s": seconds_since(began_s)})
    say("the operator is Ready")
    platform.apply()
    applied_s = time.monotonic()
    postgres = f"{platform.name}-postgres"

    def database_ready() -> bool:
        found = got("statefulset", postgres, f"--namespace={platform.namespace}")
        return bool(found["status"].get("readyReplicas"))

    steps = {
        "postgres_ready": database_ready,
        "migrated": lambda: platform.is_true("Migrated"),
        "shards_owned": lambda: platform.is_true("ShardsOwned"),
        "redis_primary": lambda: platform.is_true("RedisReady"),
        "gateway_answers": load.answers,
        "ready": lambda: platform.is_true("Ready"),
    }
    # Each is asked for in turn: one that came before its turn is no earlier than what is printed for it.
    for what, holds in steps.items():
        wait_for(what.replace("_", " "), holds, PHASES_S, platform.why)
        facts[f"{what}_s"] = seconds_since(applied_s)
        say(f"{what.replace('_', ' ')}: {facts[f'{what}_s']} s after the apply")
    bettor = load.first_bettor()
    wait_for("a bet is accepted", lambda: load.bet_on_everything(bettor), 60.0)
    facts["first_bet_s"] = seconds_since(applied_s)
    say(f"first bet: {facts['first_bet_s']} s after the apply")
    wait_for("a bet is settled", lambda: load.settled_bets(bettor), 300.0)
    settled_s = seconds_since(applied_s)
    facts["first_settled_bet_s"] = settled_s
    say(f"first settled bet: {settled_s} s after the apply")
    platform.wait_rolled_out(scene.images.current)
    expect(
        settled_s <= SETTLED_MAX_S,
        f"the first settled bet came {settled_s} s after the apply: {SETTLED_MAX_S:.0f} wanted",
    )
    return facts


def reinstall(scene: Scene) -> Facts:
    """The platform deleted, then the chart; all but volumes and Secrets goes; installed again, the money is there

    kubectl delete bp/demo; helm uninstall betting
    """
    platform, load = scene.platform, scene.load
    load.gather()
    money = load.note_balances()
    began_s = time.monotonic()
    platform.remove()
    helm("uninstall", platform.release, f"--namespace={platform.namespace}", "--wait", "--timeout=2m")
    wait_for("nothing of it is left", lambda: not platform.leftovers(), 120.0, lambda: str(platform.leftovers()))
    removed_s = seconds_since(began_s)
    secrets, claims = retained(platform)
    expect(len(secrets) == 4, f"kept Secrets: {secrets}; wanted those of Postgres, Redis, the services, and the login")
    expect(len(claims) == 1, f"kept volume claims: {claims}; wanted that of Postgres")
    say(f"gone after {removed_s:.0f} s; kept: {', '.join([*secrets, *claims])}")
    began_s = time.monotonic()
    platform.install_operator(scene.images.current)
    platform.apply()
    platform.wait_rolled_out(scene.images.current)
    wait_for("the gateway answers", load.answers, 60.0)
    back_s = seconds_since(began_s)
    less = load.changed_balances()
    expect(not less, f"{len(less)} bettors have less money than before, such as {less[:1]}")
    return {"removed_s": removed_s, "kept": [*secrets, *claims], "back_s": back_s, "money_minor": money}


INSTALL = Scenario("install", install, loaded=False, core=True)
SCENARIOS = (Scenario("reinstall", reinstall, loaded=False, core=True),)
