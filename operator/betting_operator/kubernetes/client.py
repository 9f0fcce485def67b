"""Requests to the Kubernetes API server: plain REST on any kind, without discovery, with typed errors.

    KubernetesError             the API server refused, or did not answer
    ├── AwayError               no answer in time, no connection, 5xx, 429: a write may have taken effect or not
    ├── NotFoundError           404: the object, or its kind, does not exist
    ├── GoneError               410: a watch cannot go on from that resourceVersion
    ├── ConflictError           409: exists already, changed meanwhile, another life, or another manager's field
    ├── ForbiddenError          401, 403: the message says which verb on what is not granted
    ├── InvalidError            400, 422: the message says which field is wrong
    └── EvictionBlockedError    429 for an eviction: a PodDisruptionBudget allows none now

`Requests` is blocking, for a thread of its own (the elector); `Client` is the same for asyncio. No request is repeated
here: callers are loops.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlencode

from kubernetes import config
from kubernetes.client import Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.client.rest import RESTClientObject, RESTResponse
from urllib3.exceptions import HTTPError

from betting_operator.kubernetes.kinds import PODS, Resource

FIELD_MANAGER = "betting-operator"
THREADS = 4
# How long the API server may take to answer one request. It answers in milliseconds; a full list takes longer.
REQUEST_TIMEOUT_S = 5.0
# How much longer than its own timeouts a request may take: they bound each step, not the sum of them.
SLACK_S = 1.0
PAGE_OBJECTS = 500

Json = dict[str, Any]
Propagation = Literal["Background", "Foreground", "Orphan"]


class KubernetesError(Exception):
    """The API server refused, or did not answer. `status`: its HTTP status, 0 without an answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message

    def __str__(self) -> str:
        return self.message


class AwayError(KubernetesError):
    """No answer, or none that says anything about the request. Whether a write took effect is not known."""


class NotFoundError(KubernetesError):
    """The object does not exist; or its kind does not, then the message names the kind."""


class GoneError(KubernetesError):
    """What should be gone on from is too old: list again."""


class ConflictError(KubernetesError):
    """The object is not as the request expects it: read it again."""


class ForbiddenError(KubernetesError):
    """Not granted to this ServiceAccount."""


class InvalidError(KubernetesError):
    """The request or the object in it is wrong: repeating it does not help."""


class EvictionBlockedError(KubernetesError):
    """A PodDisruptionBudget does not allow this eviction now: try again later."""


@dataclass(frozen=True)
class Event:
    """A change that a watch tells. type: ADDED, MODIFIED, DELETED (the object as it was last), BOOKMARK."""

    type: str
    object: Json


@dataclass(frozen=True)
class Listed:
    """All objects of one list, and the resourceVersion of the moment it shows."""

    objects: tuple[Json, ...]
    resource_version: str


def configuration(kubeconfig: Path | None = None) -> Configuration:
    """How to reach the API server: this kubeconfig; else the pod's ServiceAccount; else KUBECONFIG or ~/.kube/config.

    Raises kubernetes.config.ConfigException when there is none, or when it cannot be read.
    """
    found = Configuration()
    if kubeconfig is not None:
        config.load_kube_config(str(kubeconfig), client_configuration=found, persist_config=False)
    else:
        try:
            config.load_incluster_config(client_configuration=found)
        except config.ConfigException:
            # By name: the library looks at the variable when it is imported, which may be before it is set.
            named = os.environ.get("KUBECONFIG")
            config.load_kube_config(named, client_configuration=found, persist_config=False)
    found.retries = False
    found.connection_pool_maxsize = THREADS + 1  # and a watch
    return found


class Requests:
    """Blocking requests. Each may be made in any thread.

    timeout_s: for the connection, and again for the answer to begin and for each part of it.
    """

    def __init__(self, configured: Configuration, *, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self._configuration = configured
        self._rest = RESTClientObject(configured)
        self._timeout_s = timeout_s

    def request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Json:
        """The object that the API server answers with. Raises KubernetesError."""
        with _answer_to(f"{method} {path}"):
            response = self._sent(method, path, body, query or {}, content_type, self._timeout_s)
            data = bytes(response.read())
        if 200 <= response.status < 300:
            return _object(data, response.status)
        raise _refusal(response.status, data, f"{method} {path}")

    def watch(self, path: str, query: Mapping[str, str], *, for_s: int, opened: Callable[[], None]) -> Iterator[Event]:
        """What changes in a collection, as it comes, until the API server ends the watch after `for_s` seconds.

        query: what a list has, and the resourceVersion to go on from. opened: called once the watch is on. Raises
        KubernetesError: GoneError when that version is too old, so that the collection has to be listed again.
        """
        what = f"watch of {path}"
        query = {**query, "watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(for_s)}
        with _answer_to(what):
            response = self._sent("GET", path, None, query, "application/json", for_s + self._timeout_s)
            if response.status != 200:
                raise _refusal(response.status, bytes(response.read()), what)
            opened()
            with closing(response.response) as lines:
                for line in lines:
                    found = _object(line, response.status)
                    if found["type"] == "ERROR":
                        raise _refusal(int(found["object"].get("code", 0)), json.dumps(found["object"]).encode(), what)
                    yield Event(found["type"], found["object"])

    def close(self) -> None:
        """Closes the connections that nobody uses."""
        self._rest.close()

    def _sent(
        self, method: str, path: str, body: Json | None, query: Mapping[str, str], content_type: str, read_s: float
    ) -> RESTResponse:
        url = self._configuration.host + path + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json", "Content-Type": content_type, "User-Agent": FIELD_MANAGER}
        headers |= self._credentials()
        timeouts_s = (self._timeout_s, read_s)
        sent: RESTResponse = self._rest.request(method, url, headers=headers, body=body, _request_timeout=timeouts_s)
        return sent

    def _credentials(self) -> dict[str, str]:
        """Asked for each request: the token of a pod is read again every minute, because it is replaced every hour."""
        settings: dict[str, Any] = dict(self._configuration.auth_settings())
        return {each["key"]: each["value"] for each in settings.values()}


class Client:
    """Requests as coroutines, which run in a few threads. Every method raises KubernetesError.

    requests: the blocking ones. before_write: called in the thread right before every request that changes something;
    what it raises ends the request before it is sent (`Elector.assert_leading`).
    """

    def __init__(
        self,
        configured: Configuration,
        *,
        timeout_s: float = REQUEST_TIMEOUT_S,
        before_write: Callable[[], None] = lambda: None,
    ) -> None:
        self.requests = Requests(configured, timeout_s=timeout_s)
        self._longest_s = 2 * timeout_s + SLACK_S
        self._before_write = before_write
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="kubernetes")

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Json:
        """One object."""
        return await self._read(resource.path(namespace, name), {})

    async def list(
        self, resource: Resource, namespace: str | None, label_selector: str = "", field_selector: str = ""
    ) -> Listed:
        """All objects at one moment that is not older than the call. label_selector: "app=a,tier in (b,c)".

        field_selector: "involvedObject.uid=…,reason=Failed", of the fields that the kind can be selected by.
        """
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        query = {"limit": str(PAGE_OBJECTS)} | {name: each for name, each in selectors.items() if each}
        found: list[Json] = []
        while True:
            page = await self._read(resource.path(namespace), query)
            found += (_typed(resource, each) for each in page["items"])
            if not page["metadata"].get("continue"):
                return Listed(tuple(found), page["metadata"]["resourceVersion"])
            query["continue"] = page["metadata"]["continue"]

    async def create(self, resource: Resource, namespace: str | None, manifest: Json) -> Json:
        """A new object. Raises ConflictError when one of its name exists."""
        body = _typed(resource, manifest)
        return await self._write("POST", resource.path(namespace), body, {"fieldManager": FIELD_MANAGER})

    async def apply(
        self, resource: Resource, namespace: str | None, manifest: Json, *, force: bool = False, dry_run: bool = False
    ) -> Json:
        """Server-side apply: the object becomes as the manifest says in the fields that it has, and keeps the others.

        force: also takes fields that another field manager owns, which otherwise is a ConflictError. dry_run: nothing
        is stored; defaults, schema and admission are applied all the same.
        """
        query = {"fieldManager": FIELD_MANAGER, "force": str(force).lower()} | ({"dryRun": "All"} if dry_run else {})
        path = resource.path(namespace, manifest["metadata"]["name"])
        return await self._write("PATCH", path, _typed(resource, manifest), query, "application/apply-patch+yaml")

    async def patch(
        self, resource: Resource, namespace: str | None, name: str, changes: Json, *, subresource: str = ""
    ) -> Json:
        """JSON merge patch (RFC 7386): what is given replaces, null removes. subresource: "scale", say.

        With metadata.resourceVersion in it, it is refused as ConflictError when the object has changed since.
        """
        path = resource.path(namespace, name, subresource)
        return await self._write(
            "PATCH", path, changes, {"fieldManager": FIELD_MANAGER}, "application/merge-patch+json"
        )

    async def patch_status(
        self, resource: Resource, namespace: str | None, name: str, status: Json, *, resource_version: str | None = None
    ) -> Json:
        """A merge patch of the status subresource; of this version of the object, or ConflictError is raised."""
        changes: Json = {"status": status}
        if resource_version is not None:
            changes["metadata"] = {"resourceVersion": resource_version}
        return await self.patch(resource, namespace, name, changes, subresource="status")

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str,
        resource_version: str | None = None,
        grace_s: int | None = None,
        propagation: Propagation = "Background",
    ) -> None:
        """Deletes this object, and no successor of its name: ConflictError for another uid or resourceVersion.

        grace_s: for pods, how long they may take to stop; None: what the pod says.
        """
        options: Json = {"preconditions": _preconditions(uid, resource_version), "propagationPolicy": propagation}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        await self._write("DELETE", resource.path(namespace, name), options)

    async def evict(
        self,
        namespace: str,
        pod: str,
        *,
        uid: str,
        resource_version: str | None = None,
        grace_s: int | None = None,
    ) -> None:
        """Deletes a pod if PodDisruptionBudgets allow it, or raises EvictionBlockedError; see `delete` for the rest."""
        options: Json = {"preconditions": _preconditions(uid, resource_version)}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace},
            "deleteOptions": options,
        }
        try:
            await self._write("POST", PODS.path(namespace, pod, "eviction"), body)
        except AwayError as error:
            if error.status == 429:
                raise EvictionBlockedError(429, error.message) from None
            raise

    async def close(self) -> None:
        """Waits for nothing: requests under way end by their timeouts."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.requests.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _read(self, path: str, query: Mapping[str, str]) -> Json:
        return await self._in_thread(partial(self.requests.request, "GET", path, query=query), f"GET {path}")

    async def _write(
        self,
        method: str,
        path: str,
        body: Json,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Json:
        def send() -> Json:
            self._before_write()
            return self.requests.request(method, path, body, query=query, content_type=content_type)

        return await self._in_thread(send, f"{method} {path}")

    async def _in_thread(self, send: Callable[[], Json], what: str) -> Json:
        try:
            async with asyncio.timeout(self._longest_s):
                return await asyncio.get_running_loop().run_in_executor(self._threads, send)
        except TimeoutError:
            raise AwayError(0, f"no answer from the API server to {what} within {self._longest_s:g} s") from None


@contextmanager
def _answer_to(what: str) -> Iterator[None]:
    try:
        yield
    except (HTTPError, ApiException, OSError, config.ConfigException) as error:
        words = str(error) or type(error).__name__
        raise AwayError(0, f"no answer from the API server to {what}: {words}") from None


def _typed(resource: Resource, found: Json) -> Json:
    """With its apiVersion and kind, which the items of a list do not have, and a custom resource must have."""
    return {"apiVersion": resource.api_version, "kind": resource.kind} | found


def _preconditions(uid: str, resource_version: str | None) -> Json:
    return {"uid": uid} | ({"resourceVersion": resource_version} if resource_version else {})


def _object(data: bytes, status: int) -> Json:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise AwayError(status, f"the API server's answer is no object: {data[:200]!r}")
    return found


def _refusal(status: int, data: bytes, what: str) -> KubernetesError:
    """The error for an answer that is not 2xx; its message is what the API server says."""
    try:
        words = str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        words = data[:200].decode(errors="replace").strip() or f"HTTP status {status}"
    match status:
        case 400 | 405 | 413 | 415 | 422:
            return InvalidError(status, f"{what}: {words}")
        case 401:
            return ForbiddenError(status, f"{what}: the API server does not accept this token: {words}")
        case 403:
            return ForbiddenError(status, words)
        case 404:
            return NotFoundError(status, f"{what}: {words}")
        case 410:
            return GoneError(status, f"{what}: {words}")
        case 409:
            return ConflictError(status, words)
        case _:
            return AwayError(status, f"{what}: HTTP status {status}: {words}")
