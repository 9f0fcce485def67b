"""The healer's own process, as the operator starts it, with a stopwatch: `healer_storm` runs it.

Nothing of it is played: port, observation, brain, executor, flight record and HealingActions are those of
`betting_operator.healer`. What is measured goes to the file named by the first argument, one line of JSON each, with
the time in seconds of time.monotonic(), which other processes of this machine share.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from betting_operator.healer import healer, main
from betting_operator.healing import brain
from betting_operator.kubernetes.client import Requests
from betting_operator.platforms.kubernetes import KubernetesPlatform
from betting_operator.platforms.pods import Pod

_METHODS = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}


class Notes:
    """The file. Written by the main loop and by the threads that send requests."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1, encoding="utf-8")
        self._lock = threading.Lock()

    def note(self, what: str, **more: Any) -> None:
        """One line, of now."""
        line = json.dumps({"what": what, "at_s": time.monotonic(), **more}) + "\n"
        with self._lock:
            self._file.write(line)


def call_of(method: str, path: str, query: dict[str, str]) -> tuple[str, str]:
    """Verb and kind of a request, as RBAC names them."""
    resource, _, rest = path.partition("/namespaces/")[2].partition("/")[2].partition("/")
    name, _, subresource = rest.partition("/")
    kind = f"{resource}/{subresource}" if subresource else resource
    if method == "GET":
        return ("watch" if query.get("watch") else "get" if name else "list"), kind
    return _METHODS[method], kind


def measure(notes: Notes) -> None:
    """From now on, in this process."""
    sent, tick, tell, note_pod = Requests._sent, healer.Healer._tick, KubernetesPlatform._tell, KubernetesPlatform._note
    containers: dict[str, str] = {}

    def counted(self: Requests, method: str, path: str, body: Any, query: dict[str, str], *more: Any) -> Any:
        verb, kind = call_of(method, path, query)
        notes.note("call", verb=verb, kind=kind)
        return sent(self, method, path, body, query, *more)

    def timed_decide(memory: Any, seen: Any, policy: Any) -> brain.Tick:
        began_s, used_s = time.monotonic(), time.thread_time()
        found = brain.decide(memory, seen, policy)
        wall_s, cpu_s = time.monotonic() - began_s, time.thread_time() - used_s
        notes.note(
            "plan",
            wall_ms=1_000 * wall_s,
            cpu_ms=1_000 * cpu_s,
            exits=[str(each.life) for each in seen.exits],
            processes=len(seen.processes or ()),
            reports=len(seen.reports),
            shards=len(seen.shards or ()),
            diagnoses=len(found.diagnoses),
            actions=Counter(type(each).__name__ for each in found.plan.actions),
        )
        return found

    async def timed_tick(self: healer.Healer, term: int) -> bool:
        began_s, used_s = time.monotonic(), time.thread_time()
        calm = await tick(self, term)
        wall_s, cpu_s = time.monotonic() - began_s, time.thread_time() - used_s
        notes.note("tick", wall_ms=1_000 * wall_s, cpu_ms=1_000 * cpu_s)
        return calm

    def told(self: KubernetesPlatform, news: Any) -> None:
        if news:
            notes.note("exits", lives=[str(each.life) for each in news], how=[each.how for each in news])
        tell(self, news)

    def seen_pod(self: KubernetesPlatform, pod: Pod) -> None:
        if containers.get(pod.uid) != pod.container:
            containers[pod.uid] = pod.container
            notes.note("container", instance=pod.name, container=pod.container)
        note_pod(self, pod)

    Requests._sent = counted  # type: ignore[method-assign]
    healer.decide = timed_decide  # type: ignore[attr-defined]
    healer.Healer._tick = timed_tick  # type: ignore[method-assign]
    KubernetesPlatform._tell = told  # type: ignore[method-assign]
    KubernetesPlatform._note = seen_pod  # type: ignore[method-assign]


if __name__ == "__main__":
    measure(Notes(Path(sys.argv.pop(1))))
    main.main()
