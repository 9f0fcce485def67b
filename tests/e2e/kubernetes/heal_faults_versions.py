"""Faults of a new version or setting: bet-services that end as soon as they start."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from heal_actions import disruptive, now, of
from heal_fault import Fault, Measure
from heal_targets import Injected, make_another_lead
from platform_under_test import SETTINGS, Installed
from scene import SAID_S, Scene
from tools import expect, say, wait_for

AGAIN_AFTER = timedelta(hours=1)
# What no bet-service starts with: its limit is 100,000.
BAD_SETTING = "BETTING_MAX_OPEN_BETS"
BAD_SETTINGS = {BAD_SETTING: "1000000"}


def _with_a_roll_back_left(platform: Installed) -> None:
    """A healer rolls a workload back once an hour: where one has, another operator leads, whose healer has not."""
    if disruptive(of(platform), ("RollBack",), now() - AGAIN_AFTER):
        make_another_lead(platform, platform.leader())


@contextmanager
def bad_version(scene: Scene) -> Iterator[Injected]:
    """A crash loop: an image whose bet-service ends at once; its pods never serve, those of before go on."""
    platform = scene.platform
    _with_a_roll_back_left(platform)
    at_s = time.monotonic()
    platform.use_image(scene.images.crashing)
    try:
        yield Injected(at_s, scene.images.crashing)
    finally:
        platform.use_image("")
        platform.wait_rolled_out(scene.images.current)


@contextmanager
def bad_settings(scene: Scene) -> Iterator[Injected]:
    """A crash loop: a setting that no bet-service starts with; said within 30 s, and rolled back to the one before."""
    platform = scene.platform
    _with_a_roll_back_left(platform)
    at_s = time.monotonic()
    platform.change(services={"betService": {"settings": BAD_SETTINGS}})
    try:

        def is_said() -> bool:
            found = platform.condition("RolledOut")
            return found.get("reason") == "RollStuck" and BAD_SETTING in found["message"]

        took_s = wait_for(f"RollStuck names {BAD_SETTING}", is_said, SAID_S, platform.why)
        say(f"after {took_s:.1f} s: {platform.condition('RolledOut')['message'][:300]}")
        yield Injected(at_s, BAD_SETTING)
        told = platform.condition("RolledOut")
        expect(BAD_SETTING in told.get("message", ""), f"it is not said which setting is not used: {told}")
    finally:
        platform.change(services={"betService": {"settings": SETTINGS}})
        platform.wait_rolled_out(scene.images.current)


FAULTS = (
    Fault("bad-version", 180.0, bad_version, Measure.ROLLED_BACK, refuses=False, once=True, alone=False),
    Fault("bad-settings", 180.0, bad_settings, Measure.ROLLED_BACK, refuses=False, once=True, alone=False),
)
