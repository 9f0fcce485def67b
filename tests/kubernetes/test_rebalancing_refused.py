"""ShardRebalances that the API server refuses."""

from __future__ import annotations

from typing import Any

import pytest
from kube_api import KubeApi, KubeError
from shard_rebalances import PATH, change, create

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"platform": ""}, "spec.platform"),
    ({"drain": ["Pod_A"]}, r"spec\.drain\[0\]"),
    ({"drain": ["a", "a"]}, "Duplicate value"),
    ({"drain": [f"pod-{n}" for n in range(201)]}, "Too many: 201: must have at most 200"),
    ({"drain": "a"}, "spec.drain"),
    ({"approval": "yes"}, "spec.approval"),
    ({"stop": "yes"}, "spec.stop"),
    ({"reason": "r" * 201}, "spec.reason"),
    ({"strategy": "Balance"}, "unknown field .*spec.strategy"),
]


@pytest.mark.parametrize(("spec", "message"), REFUSED, ids=[str(spec)[:40] for spec, _ in REFUSED])
def test_what_cannot_be_meant_is_refused_at_admission(
    kube_api: KubeApi, namespace: str, spec: dict[str, Any], message: str
) -> None:
    """With the field that is wrong."""
    manifest = {
        "apiVersion": "selfhealing.bet/v1alpha1",
        "kind": "ShardRebalance",
        "metadata": {"name": "evening"},
        "spec": {"platform": "demo", **spec},
    }
    with pytest.raises(KubeError, match=message):
        kube_api.request("POST", f"{PATH.format(namespace)}?fieldValidation=Strict", manifest)


def test_what_was_asked_for_cannot_change_and_a_stop_cannot_be_taken_back(kube_api: KubeApi, namespace: str) -> None:
    """A plan that people have looked at is not another one afterwards."""
    create(kube_api, namespace, drain=["pod-a"])
    for spec in ({"platform": "other"}, {"drain": ["pod-b"]}, {"drain": []}):
        with pytest.raises(KubeError, match="it cannot change: make another ShardRebalance"):
            change(kube_api, namespace, **spec)
    change(kube_api, namespace, approval="0123456789ab", stop=True)
    with pytest.raises(KubeError, match="a stop cannot be taken back"):
        change(kube_api, namespace, stop=False)
    manifest = {"apiVersion": "selfhealing.bet/v1alpha1", "kind": "ShardRebalance", "metadata": {"name": "b"}}
    with pytest.raises(KubeError, match="spec: Required value"):
        kube_api.request("POST", PATH.format(namespace), manifest)
