"""What the CustomResourceDefinitions have in common, purely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from betting_operator.kubernetes.schema import GROUP, VERSION
from betting_operator.kubernetes.schema_parts import Schema


class Column(NamedTuple):
    """What `kubectl get` shows. priority: 1: only with `-o wide`; None leaves it out, which means 0."""

    name: str
    type: str
    path: str
    priority: int | None = None


def definition(
    kind: str,
    plural: str,
    short_name: str,
    columns: Sequence[Column],
    schema: Schema,
    subresources: Schema | None = None,
) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind in namespaces. schema: of the whole object. subresources: None: it has
    none, not even its status."""
    version: dict[str, Any] = {"name": VERSION, "served": True, "storage": True}
    if subresources is not None:
        version["subresources"] = subresources
    version["additionalPrinterColumns"] = [_shown(each) for each in columns]
    version["schema"] = {"openAPIV3Schema": {"type": "object", **schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short_name],
            },
            "versions": [version],
        },
    }


def _shown(column: Column) -> Schema:
    found: Schema = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return found if column.priority is None else found | {"priority": column.priority}
