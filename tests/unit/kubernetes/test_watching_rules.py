"""What is known of the objects of a kind, by lists and events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from betting_operator.kubernetes.watching import Cache

NAMES = ("a", "b", "c")


def found(name: str, version: int) -> dict[str, Any]:
    """An object."""
    return {"metadata": {"name": name, "resourceVersion": str(version), "managedFields": ["much"]}}


@dataclass(frozen=True)
class Written:
    """One write of the store: its version is its place in the history, from 1."""

    name: str
    deleted: bool


def state_at(history: list[Written], version: int) -> dict[str, int]:
    """Which objects exist at a version, and the version of each."""
    exists: dict[str, int] = {}
    for number, write in enumerate(history[:version], 1):
        exists[write.name] = number
        if write.deleted:
            del exists[write.name]
    return exists


@st.composite
def histories(draw: st.DrawFn) -> list[Written]:
    """Creations, changes and deletions of three objects."""
    exists: set[str] = set()
    history = []
    for name, delete in draw(st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), max_size=25)):
        deleted = delete and name in exists
        exists = exists - {name} if deleted else exists | {name}
        history.append(Written(name, deleted))
    return history


@settings(max_examples=500, deadline=None)
@given(data=st.data(), history=histories())
def test_what_is_known_only_gets_newer_and_a_list_at_the_end_makes_it_exact(
    data: st.DataObject, history: list[Written]
) -> None:
    """Whatever events are late, repeated or missing, and however old a list is when it arrives."""
    cache = Cache()
    told: dict[str, int] = {}  # as one knows who looks only at the names that are told
    newest = dict.fromkeys(NAMES, 0)  # the highest version of each name that the cache has been shown
    listed = 0
    for _ in range(data.draw(st.integers(0, 30))):
        if history and data.draw(st.booleans()):
            version = data.draw(st.integers(1, len(history)))
            write = history[version - 1]
            kind = "DELETED" if write.deleted else data.draw(st.sampled_from(["ADDED", "MODIFIED", None]))
            name = cache.event(kind, found(write.name, version))
            changed = {name} if name else set()
            newest[write.name] = max(newest[write.name], version)
        else:
            listed = data.draw(st.integers(listed, len(history)))
            objects = [found(name, version) for name, version in state_at(history, listed).items()]
            changed = cache.replace(objects, str(listed))
            newest = {name: max(version, listed) for name, version in newest.items()}
        known = {name: int(each["metadata"]["resourceVersion"]) for name, each in cache.objects().items()}
        for name in changed:
            told.pop(name, None)
            told |= {name: known[name]} if name in known else {}
        assert told == known
        expected = {name: state_at(history, newest[name]).get(name) for name in NAMES}
        assert known == {name: version for name, version in expected.items() if version is not None}
    cache.replace([found(*each) for each in state_at(history, len(history)).items()], str(len(history)))
    assert set(cache.objects()) == set(state_at(history, len(history)))


def test_a_store_that_was_set_back_is_believed() -> None:
    """etcd restored from a backup: versions begin lower again, and what was newer never happened."""
    cache = Cache()
    cache.replace([found("a", 100)], "100")
    cache.event("ADDED", found("b", 101))
    assert cache.replace([found("a", 40)], "50") == {"a", "b"}
    assert set(cache.objects()) == {"a"}
    assert cache.event("MODIFIED", found("a", 51)) == "a"


def test_managed_fields_are_not_kept() -> None:
    """They are most of an object's bytes."""
    cache = Cache()
    cache.replace([found("a", 1)], "1")
    cache.event("ADDED", found("b", 2))
    assert [each["metadata"] for each in cache.objects().values()] == [
        {"name": "a", "resourceVersion": "1"},
        {"name": "b", "resourceVersion": "2"},
    ]
