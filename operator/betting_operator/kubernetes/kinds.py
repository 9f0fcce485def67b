"""Kinds of objects of Kubernetes, as requests name them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from betting_operator.kubernetes import schema


@dataclass(frozen=True, order=True)
class Resource:
    """A kind of object: what a request to it needs. api_version: "v1", "apps/v1". plural: "deployments"."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """The path of the collection, of an object or of its subresource. namespace None: of the cluster."""
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        scope = "" if namespace is None else f"/namespaces/{quote(namespace, safe='')}"
        parts = [root + scope, self.plural, quote(name, safe=""), subresource]
        return "/".join(part for part in parts if part)


PODS = Resource("v1", "Pod", "pods")
PLATFORMS = Resource(schema.API_VERSION, schema.KIND, schema.PLURAL)
