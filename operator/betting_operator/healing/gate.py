"""What may be done that has a price: one gate and one budget for everything that kills, moves what works or fails over.

A budget belongs to a service, and only what is done to the same instance again soon counts: many first failures of many
things are no reason to leave the next one hanging, failures of one thing again and again are. Where nobody else of a
service is left, doing nothing helps nobody: no budget holds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.memory import Deed, Memory
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Database, Observation, Phase

# A life that is still there after so long was not killed: the call did not arrive, and is made again.
KILL_TAKES_MS = 10_000


class Gate:
    """Of one tick: what is begun in it counts at once. suspects: instances that are not known to be well."""

    def __init__(self, seen: Observation, memory: Memory, policy: Policy, suspects: Collection[str]) -> None:
        self._seen = seen
        self._policy = policy
        self._deeds = list(memory.deeds)
        self._tries = {each.instance: each.count for each in memory.tries}
        self._suspects = suspects

    def begun(self, service: str, instance: str, boot_id: str) -> Deed:
        """Takes note of what is begun now."""
        deed = Deed(self._seen.at_ms, service, instance, boot_id)
        self._deeds.append(deed)
        return deed

    @property
    def paused(self) -> str:
        """Why nothing dear may be done at all; "" when it may."""
        return f"healing is paused: {self._policy.paused}" if self._policy.paused else ""

    @property
    def unwritable(self) -> str:
        """Why nothing may be done that has to be written to Postgres; "" when it may."""
        how = self._seen.database
        return "" if how is Database.OK else f"Postgres takes no writes ({how}): done once it does"

    def spent(self, service: str) -> str:
        """Whether a service has had its budget: of failovers, and of kills soon after the last of the same instance."""
        if self._repeated(service) < self._policy.dear_per_window:
            return ""
        budget, window_s = self._policy.dear_per_window, self._policy.window_ms // 1_000
        return f"the budget of {budget} in {window_s} s for {service} is spent: a person must look"

    def rest(self, service: str) -> str:
        """Whether a service has been acted on too recently."""
        last_ms = max((deed.at_ms for deed in self._deeds if deed.service == service), default=None)
        if last_ms is None or self._seen.at_ms - last_ms >= self._policy.cool_down_ms:
            return ""
        ago_ms = self._seen.at_ms - last_ms
        return f"{service} was acted on {ago_ms} ms ago: one at a time, {self._policy.cool_down_ms} ms apart"

    def killed(self, instance: str, boot_id: str, within_ms: int = KILL_TAKES_MS) -> bool:
        """Whether this life has been killed already, and its end is waited for."""
        return any(
            (deed.instance, deed.boot_id) == (instance, boot_id) and self._seen.at_ms - deed.at_ms < within_ms
            for deed in self._deeds
        )

    def why_not(self, service: str, instance: str, boot_id: str) -> str:
        """Why a kill has to wait, or must not be; "" when it may be."""
        if self.paused:
            return self.paused
        if self.killed(instance, boot_id):
            return "this life has been killed already: waiting for its end"
        is_last = self.is_last(service, instance)
        if self._in_vain(instance):
            last_ms = max((deed.at_ms for deed in self._deeds if deed.instance == instance), default=None)
            again_ms = 0 if last_ms is None else last_ms + self._policy.retry_after_ms - self._seen.at_ms
            if not is_last or again_ms > 0:
                again = f", again in {again_ms} ms because no other instance is well" if is_last else ""
                return f"killed {self._tries[instance]} times without getting healthy: a person must look{again}"
        return self.rest(service) or ("" if is_last else self.spent_on(service, instance))

    def spent_on(self, service: str, instance: str) -> str:
        """Whether its service has had its budget, and this would be once more; a first failure is always answered."""
        return self.spent(service) if self._is_again(instance) else ""

    def is_last(self, service: str, instance: str) -> bool:
        """Whether no other instance of the service is known to be well."""
        return not any(
            each.service == service
            and each.instance != instance
            and each.phase is Phase.RUNNING
            and not each.silent_ms
            and each.instance not in self._suspects
            for each in self._seen.processes or ()
        )

    def exhausted(self, patients: Iterable[tuple[str, Diagnosis]]) -> Iterator[Diagnosis]:
        """Where what heals did not help, or may not be tried any more. patients: service, and who needs a kill."""
        waiting = [(service, each) for service, each in patients if not self._ever_killed(each)]
        for target in sorted({each.target for _service, each in waiting}):
            if self._in_vain(target):
                text = f"killed {self._tries[target]} times without getting healthy in between"
                yield Diagnosis(Kind.HEALING_EXHAUSTED, target, Certainty.CONFIRMED, (text,))
        for service in sorted({service for service, each in waiting if self.spent_on(service, each.target)}):
            window_s = self._policy.window_ms // 1_000
            needs = next(each.target for other, each in waiting if other == service)
            text = f"{self._repeated(service)} repeated kills in {window_s} s, and {needs} needs another"
            yield Diagnosis(Kind.HEALING_EXHAUSTED, f"budget of {service}", Certainty.CONFIRMED, (text,))

    def _in_vain(self, instance: str) -> bool:
        return self._tries.get(instance, 0) >= self._policy.tries_max

    def _is_again(self, instance: str) -> bool:
        since_ms = self._seen.at_ms - self._policy.again_within_ms
        return any(deed.instance == instance and deed.at_ms > since_ms for deed in self._deeds)

    def _repeated(self, service: str) -> int:
        done = [deed for deed in self._deeds if deed.service == service]
        last_ms: dict[str, int] = {}
        count = 0
        for deed in done:
            before_ms = last_ms.get(deed.instance)
            soon = before_ms is not None and deed.at_ms - before_ms < self._policy.again_within_ms
            count += soon or not deed.boot_id  # a failover: it is about all of Redis
            last_ms[deed.instance] = deed.at_ms
        return count

    def _ever_killed(self, each: Diagnosis) -> bool:
        return any((deed.instance, deed.boot_id) == (each.target, each.boot_id) for deed in self._deeds)
