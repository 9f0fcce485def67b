"""Which shards this instance should take and which it should hand on. A pure function of what the database says.

While the healer beats, `desired_owner` decides. Otherwise instances look after themselves: a shard handed over goes to
whom it was meant for; the shared placement function says who should own the rest: free shards and shards of the dead
are claimed by the one it names, nobody exceeds the fair share, and who holds too much hands on, one shard at a time,
those it has had longest first.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from betting.journal.directory import InstanceRow, ShardRow
from betting.placement import place


class ClaimInputs(NamedTuple):
    """Everything a claim decision rests on. newest: shards in this instance's memory, the last taken first."""

    me: str
    shards: Sequence[ShardRow]
    instances: Sequence[InstanceRow]
    healer_beat_age_s: float | None
    lost_recently: Collection[int]
    draining: bool
    # The directory could not be read a moment ago: others may be alive and have beaten in vain.
    beats_void: bool = False
    newest: Sequence[int] = ()


class HandOver(NamedTuple):
    """Give this shard to that instance; None: to nobody, it is free."""

    shard: int
    to: str | None


class ClaimPlan(NamedTuple):
    """`claim`: nobody owns them; `steal`: their owner is dead; `hand_over`: ours, meant for others."""

    claim: tuple[ShardRow, ...]
    steal: tuple[ShardRow, ...]
    hand_over: tuple[HandOver, ...]


def plan(inputs: ClaimInputs, orphaned_after_s: float) -> ClaimPlan:
    """What to do now. Only shards in state `free` or `owned` move; frozen and quarantined ones wait for a human."""
    silent = {i.life for i in inputs.instances if i.beat_age_s > orphaned_after_s}
    # Whose own beats do not arrive can conclude nothing from others'.
    void = inputs.beats_void or inputs.me in silent
    dead = {i.life for i in inputs.instances if i.exited} | (set() if void else silent)
    able = {i.life for i in inputs.instances if not (i.life in dead or i.life in silent or i.draining)}
    known = {i.life for i in inputs.instances}
    # Who lost a shard a moment ago may be sick, so others go first; a sick owner is still better than none.
    others = known - dead - {inputs.me}
    healer = inputs.healer_beat_age_s is not None and inputs.healer_beat_age_s <= orphaned_after_s
    wanted = _by_healer(inputs, able) if healer else _by_placement(inputs, dead)
    claim, steal, hand_over = [], [], []
    for row in inputs.shards:
        if row.state not in ("free", "owned"):
            continue
        target = wanted.get(row.shard)
        if row.owner == inputs.me:
            if inputs.draining or (target != inputs.me and target in able and not void):
                hand_over.append(HandOver(row.shard, target))
        elif target != inputs.me or inputs.draining:
            continue
        elif row.owner is None:
            claim.append(row)
        elif row.shard in inputs.lost_recently and others and not healer:
            continue
        elif row.owner in dead or row.owner not in known:
            steal.append(row)
    return ClaimPlan(tuple(claim), tuple(steal), tuple(hand_over))


def _by_healer(inputs: ClaimInputs, able: Collection[str]) -> dict[int, str | None]:
    """What the healer wants. Who drains does not wait for it to say where: then the placement function does."""
    wanted: dict[int, str | None] = {row.shard: row.desired_owner for row in inputs.shards}
    if not inputs.draining:
        return wanted
    others = set(able) - {inputs.me}
    elsewhere = place(len(inputs.shards), sorted(others), {row.shard: row.owner or "" for row in inputs.shards})
    return {shard: owner if owner in others else elsewhere.get(shard) for shard, owner in wanted.items()}


def _by_placement(inputs: ClaimInputs, dead: Collection[str]) -> dict[int, str | None]:
    able = [i.life for i in inputs.instances if i.life not in dead and not i.draining]
    if inputs.draining:
        able = [name for name in able if name != inputs.me]
    owners = {row.shard: row.owner for row in inputs.shards if row.owner is not None}
    wanted: dict[int, str | None] = dict(place(len(inputs.shards), able, owners, inputs.newest))
    for row in inputs.shards:
        if row.owner is None and row.desired_owner in able:
            wanted[row.shard] = row.desired_owner
    return wanted
