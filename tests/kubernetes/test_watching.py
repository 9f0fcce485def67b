"""What exists, as watches and lists of a real API server tell it, also across gaps and faults."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from cutting_proxy import CuttingProxy
from kube_api import KubeApi
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from betting_operator.kubernetes.client import Client, configuration
from betting_operator.kubernetes.kinds import Resource
from betting_operator.kubernetes.watching import Key, KopfWatch, Watched, WatchEndedError, Watching

CONFIG_MAPS = Resource("v1", "ConfigMap", "configmaps")
DEPLOYMENTS = Resource("apps/v1", "Deployment", "deployments")
OURS = Watched(CONFIG_MAPS, "part-of=betting")
NEVER_S = 3600.0


class Maps:
    """Config maps of a namespace, written behind the operator's back."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self._api, self._path = api, CONFIG_MAPS.path(namespace)

    def write(self, name: str, value: str = "1", part_of: str = "betting") -> None:
        metadata = {"name": name, "labels": {"part-of": part_of}}
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"key": value}}
        self._api.apply(f"{self._path}/{name}", manifest)

    def delete(self, name: str) -> None:
        self._api.request("DELETE", f"{self._path}/{name}")


@pytest.fixture
def maps(kube_api: KubeApi, namespace: str) -> Maps:
    """None of them exists yet."""
    return Maps(kube_api, namespace)


class Watch:
    """A Watching that runs, and the keys that it told."""

    def __init__(self) -> None:
        self.told: list[Key] = []
        self.watching: Watching

    def names(self) -> set[str]:
        """Which config maps exist."""
        return set(self.watching.objects(CONFIG_MAPS))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Polls; the test's own timeout ends it."""
        while not condition():  # noqa: ASYNC110  (the watch makes it true)
            await asyncio.sleep(0.02)


@asynccontextmanager
async def watching(
    kubeconfig: Path,
    namespace: str,
    *watched: Watched,
    kopf_kubeconfig: Path | None = None,
    list_every_s: float = NEVER_S,
    inactivity_s: float = 45.0,
) -> AsyncIterator[Watch]:
    """Runs as long as the block lasts. kopf_kubeconfig: if Kopf takes another way to the API server."""
    watch = Watch()
    async with Client(configuration(kubeconfig), timeout_s=1.0) as client:
        watch.watching = Watching(
            client,
            partial(configuration, kopf_kubeconfig or kubeconfig),
            namespace,
            watched or (OURS,),
            watch.told.append,
            list_every_s=list_every_s,
            inactivity_s=inactivity_s,
        )
        task = asyncio.ensure_future(watch.watching.run())
        try:
            yield watch
            assert not task.done()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def kopf_watches(watch: Watch, maps: Maps) -> None:
    """Returns once an event came through Kopf: lists are not made any more."""
    await watch.watching.listed()
    number = 0
    while not any(name.startswith("probe-") for name in watch.names()):
        number += 1
        maps.write(f"probe-{number}")
        await asyncio.sleep(0.1)


async def test_events_are_told_at_once_and_only_of_what_is_selected(
    kube_api: KubeApi, namespace: str, maps: Maps
) -> None:
    """Creation, change, deletion; an object whose labels do not match any more is gone."""
    maps.write("before")
    maps.write("foreign", part_of="other")
    async with watching(kube_api.kubeconfig(), namespace) as watch:
        await kopf_watches(watch, maps)
        maps.write("a")
        await watch.until(lambda: "a" in watch.names())
        maps.write("a", "2")
        await watch.until(lambda: (watch.watching.get(CONFIG_MAPS, "a") or {})["data"] == {"key": "2"})
        maps.delete("a")
        maps.write("before", part_of="other")
        await watch.until(lambda: not {"a", "before"} & watch.names())
        assert "foreign" not in watch.names()
        assert watch.told.count(Key("ConfigMap", "a")) == 3
        assert Key("ConfigMap", "foreign") not in watch.told


async def test_a_watch_writes_nothing(kube_api: KubeApi, namespace: str, maps: Maps) -> None:
    """No finalizer, no annotation, no event: Kopf's run leaves the object as it was."""
    maps.write("a")
    path = CONFIG_MAPS.path(namespace, "a")
    before = kube_api.request("GET", path)
    async with watching(kube_api.kubeconfig(), namespace) as watch:
        await kopf_watches(watch, maps)
    assert kube_api.request("GET", path) == before
    assert kube_api.request("GET", f"/api/v1/namespaces/{namespace}/events")["items"] == []


async def test_it_needs_no_rights_beyond_its_namespace(kube_api: KubeApi, namespace: str, maps: Maps) -> None:
    """get, list and watch on what it watches; nothing on namespaces and CRDs; and it complains of nothing."""
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}]
    with capture_logs() as lines:
        async with watching(kube_api.service_account(namespace, "operator", rules), namespace) as watch:
            await kopf_watches(watch, maps)
    assert [line for line in lines if line["log_level"] not in {"info", "debug"}] == []


async def test_what_was_deleted_while_a_watch_was_cut_is_found_by_the_next_list(
    kube_api: KubeApi, namespace: str, maps: Maps
) -> None:
    """Kopf is cut off, the API server restarted, objects deleted and made; afterwards Kopf goes on where it can."""
    async with CuttingProxy(f"https://127.0.0.1:{kube_api.port}") as proxy:
        kopf_kubeconfig = kube_api.kubeconfig(url=f"https://{proxy.address}")
        maps.write("deleted")
        async with watching(
            kube_api.kubeconfig(), namespace, kopf_kubeconfig=kopf_kubeconfig, list_every_s=3.0
        ) as watch:
            await kopf_watches(watch, maps)
            proxy.lead_to("https://127.0.0.1:1")
            proxy.cut()
            kube_api.restart()
            maps.delete("deleted")
            maps.write("made")
            watch.told.clear()
            await watch.until(lambda: {Key("ConfigMap", "deleted"), Key("ConfigMap", "made")} <= set(watch.told))
            assert "deleted" not in watch.names()
            assert "made" in watch.names()
            proxy.lead_to(f"https://127.0.0.1:{kube_api.port}")
            cuts = proxy.cuts
            maps.write("after")
            await watch.until(lambda: "after" in watch.names())
            assert proxy.cuts == cuts


@pytest.mark.parametrize("fault", ["killed", "paused"])
async def test_events_are_told_again_when_the_api_server_is_back(
    kube_api: KubeApi, namespace: str, maps: Maps, fault: str
) -> None:
    """After refusals, and after silence past the inactivity timeout; by the watch alone, without a list."""
    async with watching(kube_api.kubeconfig(), namespace, inactivity_s=1.0) as watch:
        await kopf_watches(watch, maps)
        if fault == "killed":
            kube_api.kill()
        else:
            kube_api.pause()
        await asyncio.sleep(2.5)  # the fault itself lasts so long
        kube_api.recover()
        maps.write("a")
        await watch.until(lambda: "a" in watch.names())


async def test_several_kinds_are_watched_apart(kube_api: KubeApi, namespace: str, maps: Maps) -> None:
    """Objects of one name in two kinds are two objects; a kind without a selector is watched whole."""
    container = {"name": "one", "image": "localhost/one:1"}
    template = {"metadata": {"labels": {"app": "same"}}, "spec": {"containers": [container]}}
    spec = {"selector": {"matchLabels": {"app": "same"}}, "template": template}
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "same"}, "spec": spec}
    async with watching(kube_api.kubeconfig(), namespace, OURS, Watched(DEPLOYMENTS)) as watch:
        await kopf_watches(watch, maps)
        maps.write("same")
        kube_api.apply(DEPLOYMENTS.path(namespace, "same"), manifest)
        await watch.until(lambda: {Key("ConfigMap", "same"), Key("Deployment", "same")} <= set(watch.told))
        assert set(watch.watching.objects(DEPLOYMENTS)) == {"same"}


async def test_rights_and_kinds_that_are_missing_are_told_and_waited_for(
    kube_api: KubeApi, namespace: str, maps: Maps
) -> None:
    """Forbidden: the log says what is not granted; once it is granted the watch goes on."""
    kubeconfig = kube_api.service_account(namespace, "operator", [])
    with capture_logs() as lines:
        async with watching(kubeconfig, namespace) as watch:
            await watch.until(lambda: lines != [])
            [line] = [line for line in lines if line["event"] == "objects not listed"]
            assert 'cannot list resource "configmaps" in API group ""' in line["problem"]
            rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]}]
            kube_api.service_account(namespace, "operator", rules)
            await kopf_watches(watch, maps)


async def test_the_age_of_what_is_known_is_a_metric(kube_api: KubeApi, namespace: str) -> None:
    """From when watching began until the first list, and from each list on: a list that fails makes it older."""

    def listed_at_s() -> float:
        found = REGISTRY.get_sample_value("betting_operator_listed_timestamp_seconds", {"resource": "configmaps"})
        assert found is not None
        return found

    kubeconfig, began_s = kube_api.service_account(namespace, "operator", []), time.time()
    with capture_logs() as lines:
        async with watching(kubeconfig, namespace, list_every_s=0.1) as watch:
            await watch.until(lambda: lines != [])
            unlisted_s = listed_at_s()
            assert began_s <= unlisted_s
            rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]}]
            kube_api.service_account(namespace, "operator", rules)
            await watch.watching.listed()
            first_s = listed_at_s()
            assert first_s > unlisted_s
            await watch.until(lambda: listed_at_s() > first_s)


async def test_an_end_of_kopf_is_an_exception_of_its_owner(kube_api: KubeApi, namespace: str, maps: Maps) -> None:
    """Rights that end while it watches; and a login that does not work."""
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]}]
    maps.write("a")
    seen = asyncio.Event()
    async with CuttingProxy(f"https://127.0.0.1:{kube_api.port}") as proxy:
        kubeconfig = kube_api.service_account(namespace, "operator", rules, url=f"https://{proxy.address}")
        watch = KopfWatch(partial(configuration, kubeconfig), namespace, [OURS], lambda *_: seen.set())
        running = asyncio.ensure_future(watch.run())
        await seen.wait()
        kube_api.service_account(namespace, "operator", [])
        proxy.cut()
        with pytest.raises(WatchEndedError, match="APIForbiddenError"):
            await running

    def cannot() -> object:
        raise OSError("no token here")

    with pytest.raises(WatchEndedError, match="no token here"):
        await KopfWatch(cannot, namespace, [OURS], lambda *_: None).run()  # type: ignore[arg-type]
