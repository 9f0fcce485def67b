"""Which shards this instance should take and which it should hand on. A pure function of what the database says.

While the healer beats, `desired_owner` decides. Otherwise instances look after themselves: a shard handed over goes to
whom it was meant for; the shared placement function says who should own the rest: free shards and shards of the dead
are claimed by the one it names, nobody exceeds the fair share, and who holds too much hands on those it has had longest
first.

Shards are handed over in groups, so small that their receiver serves them a moment later, and the next group only once
the one before was taken.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from betting.journal.directory import InstanceRow, ShardRow
from betting.placement import Candidate, place

# What a receiver gets at once, from all givers together. Each shard costs it a few statements (1-3 ms), and 20,000
# entries and open bets about 70 ms.
GROUP_SHARDS_MAX = 32
GROUP_ENTRIES_MAX = 20_000


class ClaimInputs(NamedTuple):
    """Everything a claim decision rests on.

    newest: shards in this instance's memory, the last taken first. entries: what their next owner has to load of them,
    in entries and open bets. late: this instance is draining and has hardly any time left. limits: how many shards
    receivers that did not take what they were given may get at once, see `directory_view.Receivers`.
    """

    me: str
    shards: Sequence[ShardRow]
    instances: Sequence[InstanceRow]
    healer_beat_age_s: float | None
    lost_recently: Collection[int]
    draining: bool
    # The directory could not be read a moment ago: others may be alive and have beaten in vain.
    beats_void: bool = False
    newest: Sequence[int] = ()
    entries: Mapping[int, int] = {}
    late: bool = False
    limits: Mapping[str, int] = {}


class HandOver(NamedTuple):
    """Give this shard to that instance; None: to nobody, it is free."""

    shard: int
    to: str | None


class ClaimPlan(NamedTuple):
    """`claim`: nobody owns them; `steal`: their owner is dead; `hand_over`: ours, to be given to others now."""

    claim: tuple[ShardRow, ...]
    steal: tuple[ShardRow, ...]
    hand_over: tuple[HandOver, ...]


def plan(inputs: ClaimInputs, orphaned_after_s: float) -> ClaimPlan:
    """What to do now. Only shards in state `free` or `owned` move; frozen and quarantined ones wait for a human."""
    silent = {i.life for i in inputs.instances if i.beat_age_s > orphaned_after_s}
    # Whose own beats do not arrive can conclude nothing from others'.
    void = inputs.beats_void or inputs.me in silent
    dead = {i.life for i in inputs.instances if i.exited} | (set() if void else silent)
    able = _taking({i.life for i in inputs.instances if not (i.life in dead | silent or i.draining)}, inputs)
    known = {i.life for i in inputs.instances}
    # Who lost a shard a moment ago may be sick, so others go first; a sick owner is still better than none.
    others = known - dead - {inputs.me}
    healer = inputs.healer_beat_age_s is not None and inputs.healer_beat_age_s <= orphaned_after_s
    wanted = _by_healer(inputs, able) if healer else _by_placement(inputs, dead)
    claim, steal, hand_over = [], [], []
    givers: dict[str | None, set[str]] = defaultdict(set)
    for row in inputs.shards:
        if row.state not in ("free", "owned"):
            continue
        target = wanted.get(row.shard)
        if row.owner is not None and row.owner != target and row.owner not in dead:
            givers[target].add(row.owner)
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
    if not inputs.late:
        hand_over = list(_group(hand_over, inputs, {to: len(owners) for to, owners in givers.items()}))
    return ClaimPlan(tuple(claim), tuple(steal), tuple(hand_over))


def _group(moves: Iterable[HandOver], inputs: ClaimInputs, givers: Mapping[str | None, int]) -> Iterable[HandOver]:
    """The moves of now: for each receiver that has taken what it was given before, as much as it can take at once.

    givers: how many instances have something for it; they share that bound.
    """
    not_taken = {row.desired_owner for row in inputs.shards if row.state == "free"}
    count: Counter[str] = Counter()
    entries: Counter[str] = Counter()
    for move in moves:
        if move.to is None:
            yield move
        elif move.to not in not_taken:
            shared = max(1, givers.get(move.to, 1))
            cost = inputs.entries.get(move.shard, 0)
            most = min(GROUP_SHARDS_MAX // shared, inputs.limits.get(move.to, GROUP_SHARDS_MAX))
            fits = count[move.to] < most and entries[move.to] + cost <= GROUP_ENTRIES_MAX // shared
            if fits or not count[move.to]:
                count[move.to] += 1
                entries[move.to] += cost
                yield move


def _by_healer(inputs: ClaimInputs, able: Collection[str]) -> dict[int, str | None]:
    """What the healer wants. Who drains does not wait for it to say where: then the placement function does."""
    wanted: dict[int, str | None] = {row.shard: row.desired_owner for row in inputs.shards}
    if not inputs.draining:
        return wanted
    others = set(able) - {inputs.me}
    elsewhere = place(len(inputs.shards), _candidates(inputs, others), _intended(inputs, others))
    return {shard: owner if owner in others else elsewhere.get(shard) for shard, owner in wanted.items()}


def _by_placement(inputs: ClaimInputs, dead: Collection[str]) -> dict[int, str | None]:
    able = _taking({i.life for i in inputs.instances if i.life not in dead and not i.draining}, inputs)
    if inputs.draining:
        able.discard(inputs.me)
    intended = _intended(inputs, able)
    wanted: dict[int, str | None] = dict(place(len(inputs.shards), _candidates(inputs, able), intended, inputs.newest))
    for row in inputs.shards:
        if row.owner is None and row.desired_owner in able:
            wanted[row.shard] = row.desired_owner
    return wanted


def _taking(able: Collection[str], inputs: ClaimInputs) -> set[str]:
    """Without those that take nothing. This instance knows best itself whether it does."""
    return {life for life in able if inputs.limits.get(life) != 0 or life == inputs.me}


def _candidates(inputs: ClaimInputs, able: Collection[str]) -> list[Candidate]:
    return [Candidate(i.life, i.generation, i.age_s) for i in inputs.instances if i.life in able]


def _intended(inputs: ClaimInputs, able: Collection[str]) -> dict[int, str]:
    """Where every shard is, or was handed over to a moment ago."""
    intended = {}
    for row in inputs.shards:
        owner = row.owner or (row.desired_owner if row.desired_owner in able else None)
        if owner is not None:
            intended[row.shard] = owner
    return intended


def all_seen_to_end(stolen: Collection[ShardRow], inputs: ClaimInputs) -> bool:
    """Then everybody sees the same, and the placement function names one taker: nobody to spread out from."""
    exited = {instance.life for instance in inputs.instances if instance.exited}
    return all(row.owner in exited for row in stolen)


def least_loaded(shards: Iterable[ShardRow], instances: Iterable[InstanceRow], able: Collection[str]) -> str:
    """Of the newest generation, who has fewest shards of those that could take one more; "" when there is nobody."""
    held = Counter(row.owner for row in shards)
    generations = {each.life: each.generation for each in instances}
    return min(able, key=lambda name: (-generations[name], held[name], name), default="")
