"""Which process, and which of its lives: what shards are owned by, what evidence is about, what is killed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

# The metadata key that every reply of a service names its life under.
METADATA_KEY: Final = "betting-life"


@dataclass(frozen=True, slots=True, order=True)
class Life:
    """One run of one instance, from its start to its end.

    workload: what it is an instance of ("bet-service"). instance: its name ("bet-service-1", or a pod's). boot_id: made
    anew by every start of the process, so that a container restarted inside its pod is another life.
    """

    workload: str
    instance: str
    boot_id: str

    def __str__(self) -> str:
        """As the directory's columns and Postgres' application_name hold it: instance and boot id."""
        return f"{self.instance}@{self.boot_id}"

    @classmethod
    def parse(cls, workload: str, text: str) -> Life:
        """The life that `str` wrote. Raises ValueError for other text."""
        instance, at, boot_id = text.rpartition("@")
        if not at or not instance or not boot_id:
            raise ValueError(f"{text!r} is no life: it is written as instance@boot_id")
        return cls(workload, instance, boot_id)

    @property
    def metadata(self) -> tuple[str, str]:
        """The key and value by which a reply names the life that gave it: workload/instance@boot_id."""
        return METADATA_KEY, f"{self.workload}/{self}"


@lru_cache(maxsize=1_024)  # the same few lives name themselves in every reply
def named(value: str | bytes | None) -> Life | None:
    """The life that a reply names under METADATA_KEY in its trailing metadata; None: none, or nothing to be read."""
    workload, slash, text = (value if isinstance(value, str) else "").partition("/")
    try:
        return Life.parse(workload, text) if slash and workload else None
    except ValueError:
        return None
