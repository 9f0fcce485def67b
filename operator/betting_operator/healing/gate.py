"""Which disruptive action may be taken: one gate and one budget for what kills, drains, moves what works or fails over.

A budget belongs to a workload, and only what is done to the same slot again soon counts: many first failures of many
things are no reason to leave the next one hanging, failures of one thing again and again are. Where no other
instance of a workload is left, no budget holds: doing nothing would not help.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from betting.life import Life
from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.memory import Disruption, Memory
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Database, Observation, Phase, Process
from betting_operator.healing.slots import slot_of_life

# A life that is still there after so long was not killed: the call did not arrive, and is made again.
KILL_TAKES_MS = 10_000


class Gate:
    """Of one tick: what is begun in it counts at once. suspects: instances that are not known to be well."""

    def __init__(self, seen: Observation, memory: Memory, policy: Policy, suspects: Collection[str]) -> None:
        self._seen = seen
        self._policy = policy
        self._disruptions = list(memory.disruptions)
        self._attempts = {(each.workload, each.slot): each.count for each in memory.attempts}
        self._suspects = suspects
        self._lost_nodes = memory.nodes.lost_names

    def begun(self, life: Life) -> Disruption:
        """Takes note of an action on one life that is begun now."""
        return self._note(Disruption(self._seen.at_ms, life.workload, slot_of_life(life), life))

    def workload_begun(self, workload: str, slot: str) -> Disruption:
        """Takes note of an action on all of a workload that is begun now: a failover, a roll-back."""
        return self._note(Disruption(self._seen.at_ms, workload, slot))

    @property
    def paused(self) -> str:
        """Why no disruptive action may be taken at all; "" when it may."""
        return f"healing is paused: {self._policy.paused}" if self._policy.paused else ""

    @property
    def moves_held(self) -> str:
        """Why no planned move may be begun: paused, or outside of the maintenance windows; "" when it may."""
        return self.paused or self._policy.moves_held

    @property
    def unwritable(self) -> str:
        """Why nothing may be done that has to be written to Postgres; "" when it may."""
        how = self._seen.database
        return "" if how is Database.OK else f"Postgres takes no writes ({how}): done once it does"

    def spent(self, workload: str) -> str:
        """Whether a workload has had its budget: of failovers, roll-backs, and kills soon after the last of a slot."""
        budget, window_s = self._policy.budget(workload), self._policy.window_ms // 1_000
        if self._repeated(workload) < budget:
            return ""
        return f"the budget of {budget} in {window_s} s for {workload} is spent: a person must look"

    def rest(self, workload: str) -> str:
        """Whether a workload has been acted on too recently."""
        last_ms = max((each.at_ms for each in self._disruptions if each.workload == workload), default=None)
        if last_ms is None or self._seen.at_ms - last_ms >= self._policy.cool_down_ms:
            return ""
        ago_ms = self._seen.at_ms - last_ms
        return f"{workload} was acted on {ago_ms} ms ago: one at a time, {self._policy.cool_down_ms} ms apart"

    def killed(self, life: Life, within_ms: int = KILL_TAKES_MS) -> bool:
        """Whether this life has been killed already, and its end is waited for."""
        return any(each.life == life and self._seen.at_ms - each.at_ms < within_ms for each in self._disruptions)

    def tried(self, life: Life) -> bool:
        """Whether anything was done to this life within the window."""
        return any(each.life == life for each in self._disruptions)

    def why_not(self, life: Life) -> str:
        """Why a kill has to wait, or must not be; "" when it may be."""
        if self.paused:
            return self.paused
        if self.killed(life):
            return "this life has been killed already: waiting for its end"
        is_last = self.is_last(life)
        if self._in_vain(life):
            last_ms = max((each.at_ms for each in self._disruptions if _is_of(each, life)), default=None)
            again_ms = 0 if last_ms is None else last_ms + self._policy.retry_after_ms - self._seen.at_ms
            if not is_last or again_ms > 0:
                again = f", again in {again_ms} ms because no other instance is well" if is_last else ""
                return f"{self._vain(life)}: a person must look{again}"
        return self.rest(life.workload) or self._too_few_well(life) or ("" if is_last else self.spent_on(life))

    def spent_on(self, life: Life) -> str:
        """Whether its workload has had its budget, and this would be once more; a first failure is always answered."""
        return self.spent(life.workload) if self._is_again(life) else ""

    def is_last(self, life: Life) -> bool:
        """Whether no other instance of the workload is known to be well."""
        return not any(each.instance != life.instance and self._is_well(each) for each in self._instances(life))

    def _too_few_well(self, life: Life) -> str:
        """Whether less of its service would be healthy without it than the policy asks for.

        Where nothing of the service is healthy, the life included, there is nothing left to keep; nor is there on a
        node that is lost.
        """
        if any(each.instance == life.instance and each.node in self._lost_nodes for each in self._instances(life)):
            return ""
        least = self._policy.healthy_percent_min(life.workload)
        instances = self._instances(life)
        well = [each.instance for each in instances if self._is_well(each)]
        others = sum(name != life.instance for name in well)
        if not well or 100 * others >= least * len(instances):
            return ""
        return (
            f"without it {others} of {len(instances)} of {life.workload} are healthy, and the policy asks for {least} %"
        )

    def _instances(self, life: Life) -> list[Process]:
        """Of its workload, without those that are stopped on purpose."""
        everybody = self._seen.processes or ()
        return [p for p in everybody if p.workload == life.workload and p.phase is not Phase.STOPPING]

    def _is_well(self, each: Process) -> bool:
        return each.phase is Phase.RUNNING and not each.silent_ms and each.instance not in self._suspects

    def exhausted(self, killable: Iterable[Diagnosis]) -> Iterator[Diagnosis]:
        """Where what heals did not help, or may not be tried any more. killable: about lives that need a kill."""
        waiting = [each.life for each in killable if each.life is not None and not self.tried(each.life)]
        for life in sorted(set(waiting)):
            if self._in_vain(life):
                yield Diagnosis(Kind.HEALING_EXHAUSTED, life.instance, Certainty.CONFIRMED, (self._vain(life),))
        for workload in sorted({life.workload for life in waiting if self.spent_on(life)}):
            window_s = self._policy.window_ms // 1_000
            needs = next(life.instance for life in waiting if life.workload == workload)
            text = f"{self._repeated(workload)} repeated kills in {window_s} s, and {needs} needs another"
            yield Diagnosis(Kind.HEALING_EXHAUSTED, f"budget of {workload}", Certainty.CONFIRMED, (text,))

    def _note(self, disruption: Disruption) -> Disruption:
        self._disruptions.append(disruption)
        return disruption

    def _count(self, life: Life) -> int:
        return self._attempts.get((life.workload, slot_of_life(life)), 0)

    def _in_vain(self, life: Life) -> bool:
        return self._count(life) >= self._policy.attempts_max

    def _vain(self, life: Life) -> str:
        """What was tried in vain. What could not be carried out (no other node, a disruption budget) counts too."""
        return f"{self._count(life)} kills or moves were tried, and it did not get healthy in between"

    def _is_again(self, life: Life) -> bool:
        since_ms = self._seen.at_ms - self._policy.again_within_ms
        return any(_is_of(each, life) and each.at_ms > since_ms for each in self._disruptions)

    def _repeated(self, workload: str) -> int:
        last_ms: dict[str, int] = {}
        count = 0
        for each in self._disruptions:
            if each.workload != workload:
                continue
            before_ms = last_ms.get(each.slot)
            soon = before_ms is not None and each.at_ms - before_ms < self._policy.again_within_ms
            count += soon or each.life is None  # it is about all of the workload
            last_ms[each.slot] = each.at_ms
        return count


def _is_of(disruption: Disruption, life: Life) -> bool:
    return (disruption.workload, disruption.slot) == (life.workload, slot_of_life(life))
