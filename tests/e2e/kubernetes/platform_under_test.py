"""The platform that the scenarios are about: how it is installed, asked and brought back to what it was."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import asyncpg
from tools import CHECKOUT, Failed, expect, forwarded, got, helm, items, kubectl, patch, say, wait_for

CHART = CHECKOUT / "charts" / "betting-platform"
EXAMPLE = CHECKOUT / "examples" / "platform.yaml"
READY_S = 180.0
ROLLED_S = 300.0
DATABASE_TIMEOUT_S = 120.0
OWNER_LABEL = "app.kubernetes.io/managed-by=betting-operator"
# A bettor who is alone on a shard has thousands of open bets before the season's next results.
SETTINGS = {"BETTING_MAX_OPEN_BETS": "100000"}

T = TypeVar("T")
Object = dict[str, Any]


@dataclass(frozen=True)
class Images:
    """References of the image under test. other: the same image under another tag. crashing: its bet-service ends at
    once."""

    current: str
    other: str
    crashing: str
    missing: str = "localhost/betting:there-is-no-such-tag"


def split(reference: str) -> tuple[str, str]:
    """Repository and tag of an image's reference."""
    repository, _, tag = reference.rpartition(":")
    return repository, tag


@dataclass(frozen=True)
class Installed:
    """One release of the chart and one BettingPlatform, in a namespace of their own. size: more of its spec."""

    namespace: str = "betting"
    release: str = "betting"
    name: str = "demo"
    size: Object = field(default_factory=dict)

    # --- installing

    def make_namespace(self) -> None:
        """A namespace in which the API server enforces the restricted Pod Security level."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}}
        kubectl("apply", "--filename=-", sent=json.dumps(namespace))

    def install_operator(self, image: str, *more: str) -> None:
        """helm install, until the operator is Ready."""
        at = (self.release, str(CHART), f"--namespace={self.namespace}", "--wait", "--timeout=3m")
        helm("install", *at, *_image_values(image), *more)

    def upgrade_operator(self, image: str) -> None:
        """helm upgrade to another image, until the new operator is Ready."""
        at = (self.release, str(CHART), f"--namespace={self.namespace}", "--wait", "--timeout=3m")
        helm("upgrade", *at, *_image_values(image), "--reuse-values")

    def apply(self) -> None:
        """kubectl apply of the example, with the settings that a test of this size needs."""
        settings = {"services": {"betService": {"settings": SETTINGS}}}
        changes = {"spec": _merged(settings, self.size)}
        local = ("--local", f"--filename={EXAMPLE}", "--type=merge", f"--patch={json.dumps(changes)}", "--output=json")
        kubectl("apply", f"--namespace={self.namespace}", "--filename=-", sent=kubectl("patch", *local))

    def is_there(self) -> bool:
        """Whether the platform is there."""
        try:
            return bool(self.resource())
        except Failed:
            return False

    # --- asking

    def resource(self) -> Object:
        """The BettingPlatform."""
        return got("bettingplatform", self.name, f"--namespace={self.namespace}")

    def status(self) -> Object:
        """Its status, {} while it has none."""
        found: Object = self.resource().get("status") or {}
        return found

    def condition(self, kind: str) -> Object:
        """One of its conditions, {} while it is not there or is about an older generation."""
        resource = self.resource()
        for each in (resource.get("status") or {}).get("conditions", ()):
            if each["type"] == kind and each.get("observedGeneration") == resource["metadata"]["generation"]:
                return dict(each)
        return {}

    def is_true(self, *kinds: str) -> bool:
        """Whether these conditions are True, for the present generation."""
        return all(self.condition(kind).get("status") == "True" for kind in kinds)

    def why(self) -> str:
        """What its conditions say that are not True."""
        found = [each for each in self.status().get("conditions", ()) if each["status"] != "True"]
        return "; ".join(f"{each['type']}={each['status']} {each['reason']}: {each['message']}" for each in found)

    def pods(self, workload: str = "", *, operator: bool = False) -> list[Object]:
        """The pods of a workload, of all, or of the operator, that are not being deleted."""
        labels = "app.kubernetes.io/name=betting-operator" if operator else OWNER_LABEL
        if workload:
            labels += f",app.kubernetes.io/name={workload}"
        found = items("pods", f"--namespace={self.namespace}", f"--selector={labels}")
        alive = [each for each in found if not each["metadata"].get("deletionTimestamp")]
        return [each for each in alive if each["status"]["phase"] not in ("Succeeded", "Failed")]

    def node_of(self, pod: str) -> str:
        """The node of a pod."""
        return str(got("pod", pod, f"--namespace={self.namespace}")["spec"].get("nodeName", ""))

    def leader(self) -> str:
        """The pod that holds the Lease, "" while none does."""
        lease = got("lease", "betting-operator", f"--namespace={self.namespace}")
        return str(lease["spec"].get("holderIdentity") or "").partition("@")[0]

    def shown_ready(self) -> set[str]:
        """The instances that health-monitor shows as ready, the healer by the name of its pod."""
        words = [line.split() for line in self._shown() if line.startswith("process ")]
        return {each[1] for each in words if each[2] == "ready"}

    def shown_owners(self) -> dict[int, str]:
        """The pod that owns each shard, as health-monitor shows it; "nobody" where none does."""
        words = [line.split() for line in self._shown() if line.startswith("shard ") and " owner=" in line]
        return {int(each[1]): each[3].removeprefix("owner=").partition("@")[0] for each in words}

    def _shown(self) -> list[str]:
        status = ("--", "sh", "-c", "betting status --address $POD_IP:7100")
        told = kubectl("exec", f"deployment/{self.name}-health-monitor", f"--namespace={self.namespace}", *status)
        return told.splitlines()

    def secret(self, name: str) -> dict[str, str]:
        """The values of a Secret."""
        data = got("secret", name, f"--namespace={self.namespace}")["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    @contextmanager
    def database(self) -> Iterator[str]:
        """The DSN of the platform's managed Postgres, through `kubectl port-forward`."""
        dsn = self.secret(f"{self.name}-postgres")["dsn"]
        with forwarded(self.namespace, f"pod/{self.name}-postgres-0", 5432) as port:
            yield re.sub(r"@[^/]+/", f"@127.0.0.1:{port}/", dsn)

    def ask(self, question: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """The answer of the platform's database."""

        async def answer(dsn: str) -> T:
            connection = await asyncpg.connect(dsn, timeout=DATABASE_TIMEOUT_S, command_timeout=DATABASE_TIMEOUT_S)
            try:
                return await question(connection)
            finally:
                await connection.close(timeout=DATABASE_TIMEOUT_S)

        with self.database() as dsn:
            try:
                return asyncio.run(answer(dsn))
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                raise Failed(f"the database did not answer: {error}") from error

    # --- changing, and waiting for it

    def change(self, **spec: Any) -> None:
        """kubectl patch of fields of spec; None removes one."""
        patch(self.namespace, f"bettingplatform/{self.name}", spec=spec)

    def use_image(self, reference: str) -> None:
        """Names the image in spec.image; "": the operator's own."""
        if not reference:
            self.change(image=None)
            return
        repository, tag = split(reference)
        self.change(image={"repository": repository, "tag": tag})

    def wait_ready(self, within_s: float = READY_S) -> float:
        """Until Ready is True for what the spec says now."""
        return wait_for(f"{self.name} is Ready", lambda: self.is_true("Ready"), within_s, self.why)

    def wait_rolled_out(self, image: str = "", within_s: float = ROLLED_S) -> float:
        """Until every pod is of the newest template (and of this image), and it is Ready."""

        def is_rolled_out() -> bool:
            if not self.is_true("RolledOut", "Ready"):
                return False
            return not image or (self.status().get("image") == image and self.images() == {image})

        return wait_for(f"{self.name} is rolled out", is_rolled_out, within_s, self.why)

    def images(self) -> set[str]:
        """The images of the pods of services and feeds. Postgres and Redis keep theirs until a person deletes a pod."""
        kept = (f"{self.name}-postgres-", f"{self.name}-redis-")
        pods = [each for each in self.pods() if not each["metadata"]["name"].startswith(kept)]
        passing = ("migrate", "placeholder")
        services = [each for each in pods if each["metadata"]["labels"]["app.kubernetes.io/name"] not in passing]
        return {container["image"] for pod in services for container in pod["spec"]["containers"]}

    def remove(self) -> None:
        """kubectl delete of the platform, until it is gone."""
        kubectl("delete", "bettingplatform", self.name, f"--namespace={self.namespace}", "--timeout=60s")

    def leftovers(self) -> list[str]:
        """What is there with the operator's labels, Secrets and volumes left out."""
        kinds = (
            "deployments,statefulsets,services,jobs,pods,poddisruptionbudgets,networkpolicies,horizontalpodautoscalers"
        )
        found = kubectl("get", kinds, f"--namespace={self.namespace}", f"--selector={OWNER_LABEL}", "--output=name")
        return found.split()

    def restore(self, image: str) -> None:
        """Brings everything back to what the scenarios expect, after one that failed."""
        say(f"bringing {self.name} back to where it was")
        if not self.is_there():
            raise Failed(f"there is no platform {self.name} any more")
        self.upgrade_operator(image)
        self.change(image=None, feeds={"theOddsApi": None}, paused=False)
        self.apply()
        self.wait_rolled_out()


def _merged(one: Object, other: Object) -> Object:
    """Fields of both; objects are merged."""
    found = dict(one)
    for name, value in other.items():
        both = isinstance(value, dict) and isinstance(found.get(name), dict)
        found[name] = _merged(found[name], value) if both else value
    return found


def _image_values(reference: str) -> list[str]:
    registry, _, name = reference.partition("/")
    repository, tag = split(name)
    return [f"--set=image.registry={registry}", f"--set=image.repository={repository}", f"--set=image.tag={tag}"]


def retained(installed: Installed) -> tuple[list[str], list[str]]:
    """The Secrets and the volume claims of a platform that are there."""
    at = f"--namespace={installed.namespace}"
    prefix = f"{installed.name}-"
    secrets = [each["metadata"]["name"] for each in items("secrets", at, f"--selector={OWNER_LABEL}")]
    selector = f"--selector=app.kubernetes.io/instance={installed.name}"
    claims = [each["metadata"]["name"] for each in items("persistentvolumeclaims", at, selector)]
    expect(all(each.startswith(prefix) for each in secrets), f"Secrets of somebody else: {secrets}")
    return secrets, claims


def seconds_since(moment_s: float) -> float:
    """Seconds since a moment of the monotonic clock, to a tenth."""
    return round(time.monotonic() - moment_s, 1)
