"""What limits are counted by: a workload, and one place in it that an instance fills, life after life.

A pod of a Deployment is replaced under a new name. Counted by name, what is replaced again and again would always be
new: so all such pods of a workload share one slot.
"""

from __future__ import annotations

import re

from betting.life import Life

# Kubernetes ends the name of a Deployment's pod with the hash of its template and five random letters, both of an
# alphabet without vowels, 0, 1 and 3 (k8s.io/apimachinery/pkg/util/rand).
_POD = re.compile(r"-[bcdfghjklmnpqrstvwxz2456789]{4,10}-[bcdfghjklmnpqrstvwxz2456789]{5}")


def slot_of(workload: str, instance: str) -> str:
    """The instance's own name where it keeps it (laptop, StatefulSet), the workload where a new pod has a new one."""
    return workload if is_replaced_by_name(instance) else instance


def slot_of_life(life: Life) -> str:
    """`slot_of` whom it is a life of."""
    return slot_of(life.workload, life.instance)


def is_replaced_by_name(instance: str) -> bool:
    """Whether this is the name of a pod of a Deployment: its replacement has another."""
    found = _POD.search(instance)
    return found is not None and found.end() == len(instance)


def template_of(instance: str) -> str:
    """Which template a pod of a Deployment was made of, by its name: those of another one differ; "" of others."""
    return instance.rpartition("-")[0] if is_replaced_by_name(instance) else ""
