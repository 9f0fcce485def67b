"""The cluster and namespace that a person's kubeconfig leads to: objects, patches, commands in a pod.

Every failure is a PluginError with what to do; of a right that is missing it names verb, resource and the chart's role.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from kubernetes import config
from kubernetes.client import ApiClient, Configuration, CoreV1Api
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream
from kubernetes.stream.ws_client import ERROR_CHANNEL, WSClient
from urllib3.exceptions import HTTPError

from betting_operator.kubernetes.client import (
    AwayError,
    ForbiddenError,
    InvalidError,
    KubernetesError,
    NotFoundError,
    Requests,
)
from betting_operator.kubernetes.kinds import PODS, Resource
from betting_operator.kubernetes.manifests import INSTANCE_LABEL, LEADER_LABEL, MANAGED_BY_LABEL, NAME_LABEL
from betting_operator.kubernetes.schema import API_VERSION, KIND, PLURAL
from betting_operator.kubernetes.workloads import OPERATOR

Json = dict[str, Any]
PLATFORMS = Resource(API_VERSION, KIND, PLURAL)
REBALANCES = Resource(API_VERSION, "ShardRebalance", "shardrebalances")
MONITOR = "health-monitor"
FIELD_MANAGER = "kubectl-betting"
REQUEST_TIMEOUT_S = 30.0
POLL_S = 0.5
# Which of the chart's roles has a right, by what it is about; the others are in view.
_ROLES = {
    ("get", "pods/exec"): "operate",
    ("create", "pods/exec"): "operate",
    ("patch", "bettingplatforms"): "operate",
    ("create", "shardrebalances"): "operate",
    ("patch", "shardrebalances"): "approve",
}


class PluginError(Exception):
    """Why a command could not do what it should, in a sentence for people. exit_code: of the process."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Cluster:
    """One namespace of one cluster. named: the BettingPlatform that is meant, "": the only one there.

    Raises PluginError when there is no kubeconfig or context of that name.
    """

    def __init__(self, kubeconfig: Path | None, context: str, namespace: str, named: str) -> None:
        path = None if kubeconfig is None else str(kubeconfig)
        self._configuration = Configuration()
        try:
            _all, active = config.list_kube_config_contexts(path)
            config.load_kube_config(
                path, context=context or None, client_configuration=self._configuration, persist_config=False
            )
            contexts = {each["name"]: each["context"] for each in _all}
        except (config.ConfigException, OSError, TypeError, KeyError) as error:
            raise PluginError(f"no cluster is known: {error}. Give --kubeconfig or --context, as to kubectl.") from None
        self._configuration.retries = False
        self.namespace = namespace or contexts[context or active["name"]].get("namespace") or "default"
        self._named = named
        self._requests = Requests(self._configuration, timeout_s=REQUEST_TIMEOUT_S)

    def platform(self) -> Json:
        """The BettingPlatform that is meant, as it is now."""
        if self._named:
            with self.right("get", PLATFORMS.plural):
                return self._requests.request("GET", PLATFORMS.path(self.namespace, self._named))
        with self.right("list", PLATFORMS.plural):
            found: list[Json] = self._requests.request("GET", PLATFORMS.path(self.namespace))["items"]
        names = [each["metadata"]["name"] for each in found]
        if len(names) == 1:
            return found[0]
        if not names:
            raise PluginError(f"there is no BettingPlatform in namespace {self.namespace}: give another with -n.")
        raise PluginError(f"namespace {self.namespace} has {', '.join(sorted(names))}: say which with --platform.")

    def get(self, resource: Resource, name: str) -> Json:
        """One object."""
        with self.right("get", resource.plural):
            return self._requests.request("GET", resource.path(self.namespace, name))

    def create(self, resource: Resource, manifest: Json) -> Json:
        """The object as it was made. A field that its kind does not have is refused."""
        body = {"apiVersion": resource.api_version, "kind": resource.kind} | manifest
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        with self.right("create", resource.plural):
            return self._requests.request("POST", resource.path(self.namespace), body, query=query)

    def patch(self, resource: Resource, name: str, changes: Json, *, dry_run: bool = False) -> Json:
        """A merge patch; the object as it is then. A field that its kind does not have is refused, and nothing done.

        dry_run: nothing is stored, whatever comes of it.
        """
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        with self.right("patch", resource.plural):
            return self._requests.request(
                "PATCH",
                resource.path(self.namespace, name),
                changes,
                query=query,
                content_type="application/merge-patch+json",
            )

    def wait(self, look: Callable[[], Json], holds: Callable[[Json], bool], within_s: float) -> Json | None:
        """The object once it is so; None when it has not become so in time."""
        until_s = time.monotonic() + within_s
        while True:
            found = look()
            if holds(found):
                return found
            if time.monotonic() >= until_s:
                return None
            time.sleep(POLL_S)

    def pods(self, platform: str) -> list[Json]:
        """Every pod of a platform, and the operator's."""
        selectors = (f"{INSTANCE_LABEL}={platform},{MANAGED_BY_LABEL}={OPERATOR}", f"{NAME_LABEL}={OPERATOR}")
        return [each for selector in selectors for each in self._pods(selector)]

    def pod_of(self, platform: str, workload: str) -> str:
        """The name of a pod of this workload that is ready."""
        ready = [each for each in self._pods(f"{INSTANCE_LABEL}={platform},{NAME_LABEL}={workload}") if _is_ready(each)]
        if not ready:
            raise PluginError(f"no pod of {workload} is ready: what is in the database cannot be asked now.")
        return str(ready[0]["metadata"]["name"])

    def leading_pod(self) -> str:
        """The pod of the operator that leads, in which the healer runs."""
        found = self._pods(f"{NAME_LABEL}={OPERATOR},{LEADER_LABEL}=true")
        if not found:
            raise PluginError(f"no operator leads in namespace {self.namespace}: is it installed there, and running?")
        return str(found[0]["metadata"]["name"])

    def run(self, pod: str, command: Sequence[str], out: BinaryIO | None = None, container: str = MONITOR) -> int:
        """Runs a command in a pod, with its output here as it comes; its exit code. out: in place of stdout."""
        with self.right("create", "pods/exec"):
            socket: WSClient = stream(
                CoreV1Api(ApiClient(self._configuration)).connect_get_namespaced_pod_exec,
                pod,
                self.namespace,
                container=container,
                command=list(command),
                stdin=False,
                stdout=True,
                stderr=True,
                tty=False,
                binary=True,
                _preload_content=False,
            )
            target = out or sys.stdout.buffer
            while socket.is_open():
                socket.update(timeout=1)
                _pass_on(socket, target)
            _pass_on(socket, target)
            return _exit_code(socket.read_channel(ERROR_CHANNEL), pod)

    def betting(self, platform: str, *arguments: str) -> int:
        """Runs the command line `betting` where the database is known; its exit code."""
        return self.run(self.pod_of(platform, MONITOR), ("betting", *arguments))

    def log(self, pod: str, container: str, since_s: int) -> bytes:
        """What a container wrote within this time."""
        with self.right("get", "pods/log"):
            answer: Any = CoreV1Api(ApiClient(self._configuration)).read_namespaced_pod_log(
                pod, self.namespace, container=container, since_seconds=since_s, _preload_content=False
            )
            return bytes(answer.data)

    def _pods(self, selector: str) -> list[Json]:
        with self.right("list", PODS.plural):
            found = self._requests.request("GET", PODS.path(self.namespace), query={"labelSelector": selector})
        return [each for each in found["items"] if not each["metadata"].get("deletionTimestamp")]

    @contextmanager
    def right(self, verb: str, resource: str) -> Iterator[None]:
        """Turns what the API server says into a PluginError. verb, resource: what the block needs the right to."""
        try:
            yield
        except ForbiddenError as error:
            raise self._refused(verb, resource, error.status, error.message) from None
        except NotFoundError as error:
            if "could not find the requested resource" in error.message or "page not found" in error.message:
                text = f"this cluster has no {resource}: its operator is older than this plugin, or not installed"
                raise PluginError(f"{text}. Nothing was done.") from None
            raise PluginError(f"{error.message.partition(': ')[2]} in namespace {self.namespace}.") from None
        except InvalidError as error:
            if "unknown field" in error.message:
                field = error.message.partition("unknown field ")[2].partition('"')[2].partition('"')[0]
                text = f"{resource} of this cluster have no field {field}: their operator is older than this plugin"
                raise PluginError(f"{text}. Nothing was done.") from None
            raise PluginError(f"{error.message.partition(': ')[2]}. Nothing was done.") from None
        except AwayError as error:
            raise PluginError(f"{self._configuration.host}: {error.message}.") from None
        except KubernetesError as error:
            raise PluginError(f"{error.message}. Nothing was done.") from None
        except ApiException as error:  # of a handshake the status is in the words
            words = f"{error.reason or ''} {_words(error.body)}"
            for status in (401, 403):
                if error.status == status or f"status {status} " in words:
                    raise self._refused(verb, resource, status, words.strip()) from None
            raise PluginError(f"{resource}: {words.strip()}.") from None
        except (HTTPError, OSError, config.ConfigException) as error:
            raise PluginError(f"{self._configuration.host} does not answer: {error}.") from None

    def _refused(self, verb: str, resource: str, status: int, words: str) -> PluginError:
        if status == 401:
            return PluginError(f"{self._configuration.host} does not accept your login: {words}.")
        role = _ROLES.get((verb, resource), "view")
        return PluginError(
            f"you may not {verb} {resource} in namespace {self.namespace}, which this command needs: {words}. The "
            f"chart's role {role} has this right."
        )


def _is_ready(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _pass_on(socket: WSClient, out: BinaryIO) -> None:
    if data := socket.read_stdout(timeout=0):
        out.write(data)
        out.flush()
    if data := socket.read_stderr(timeout=0):
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()


def _exit_code(ended: bytes, pod: str) -> int:
    """ended: a Status of Kubernetes, what its API server sends last."""
    try:
        status = json.loads(ended)
        if status["status"] == "Success":
            return 0
        causes = {each.get("reason"): each.get("message") for each in status.get("details", {}).get("causes", ())}
        if "ExitCode" in causes:
            return int(causes["ExitCode"])
        words = status.get("message") or "it gave no reason"
    except (ValueError, KeyError, TypeError):
        words = "the connection was lost before the command had ended"
    raise PluginError(f"the command in pod {pod} did not run to its end: {words}.")


def _words(body: object) -> str:
    try:
        return str(json.loads(body)["message"])  # type: ignore[arg-type]
    except (ValueError, KeyError, TypeError):
        return ""
