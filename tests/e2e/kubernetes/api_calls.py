"""What the operator asked of the API server, from the API server's own audit log (which `make cluster` has)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tools import CLUSTER, Failed, Skipped, is_minicluster_here

LOG = CLUSTER / "run" / "audit.log"
_POD = "authentication.kubernetes.io/pod-name"
READS = frozenset(("get", "list", "watch"))


@dataclass(frozen=True)
class Call:
    """One request. at: when it was received. resource: its plural, with the subresource. code: of its answer."""

    at: datetime
    pod: str
    verb: str
    resource: str
    name: str
    code: int

    @property
    def is_write(self) -> bool:
        """Whether it changes anything."""
        return self.verb not in READS


def of_operator(namespace: str, since: datetime, until: datetime) -> list[Call]:
    """The requests of the operator's pods in a namespace, oldest first.

    Raises Skipped where there is no audit log, and Failed where there must be one: in the minicluster.
    """
    if not is_minicluster_here():
        raise Skipped(f"the API server's audit log is not in {LOG}: only the minicluster has it")
    if not LOG.exists():
        raise Failed(f"the API server writes no audit log: {LOG} is not there")
    user = f"system:serviceaccount:{namespace}:betting-operator"
    found = [call for who, call in _calls(since) if who == user and since <= call.at < until]
    return sorted(found, key=lambda call: call.at)


def now() -> datetime:
    """The time, as the audit log writes it."""
    return datetime.now(UTC)


def expect_evidence(calls: list[Call], *leaders: str) -> None:
    """Raises Failed unless each of these pods has written the Lease: else the calls say nothing about who led.

    The audit log is evidence only if it has what is known to have happened.
    """
    renewed = {call.pod for call in calls if call.resource == "leases" and call.is_write and call.code < 300}
    silent = sorted(set(leaders) - renewed)
    if silent:
        raise Failed(
            f"the audit log has no write of the Lease by {', '.join(silent)}, which led: "
            f"{len(calls)} requests of the operator are in it, and they prove nothing"
        )


def counted(calls: list[Call]) -> Counter[str]:
    """How many of each verb and resource."""
    return Counter(f"{call.verb} {call.resource}" for call in calls)


def acted_without_lease(calls: list[Call]) -> list[Call]:
    """Writes of a pod that was not the last to have written the Lease: another one led by then."""
    holder, found = "", []
    for call in calls:
        if call.resource == "leases" and call.is_write and call.code < 300:
            holder = call.pod
        elif call.is_write and call.code < 300 and holder and call.pod != holder:
            found.append(call)
    return found


def _calls(since: datetime) -> Iterator[tuple[str, Call]]:
    """Of the log and of those it was before it grew too large (audit-TIME.log), that were written to since then."""
    for log in sorted(LOG.parent.glob(f"{LOG.stem}*{LOG.suffix}")):
        if log.stat().st_mtime >= since.timestamp():
            yield from _calls_in(log)


def _calls_in(log: Path) -> Iterator[tuple[str, Call]]:
    with log.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                return  # the API server is writing it
            event = json.loads(line)
            wanted = (
                "ResponseStarted" if event["verb"] == "watch" else "ResponseComplete"
            )  # a watch goes on for minutes
            if event["stage"] != wanted:
                continue
            target, user = event.get("objectRef") or {}, event["user"]
            resource = "/".join(filter(None, (target.get("resource", ""), target.get("subresource", ""))))
            pod = (user.get("extra") or {}).get(_POD, [""])[0]
            at = datetime.fromisoformat(event["requestReceivedTimestamp"].replace("Z", "+00:00"))
            code = (event.get("responseStatus") or {}).get("code", 0)
            yield user["username"], Call(at, pod, event["verb"], resource, target.get("name", ""), code)
