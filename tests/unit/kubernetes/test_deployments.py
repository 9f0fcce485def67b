"""What a Deployment keeps of the one that is there: the number of its pods, and the count of its templates."""

from __future__ import annotations

import pytest

from betting_operator.kubernetes.deployments import replicas_to_apply, template_generation
from betting_operator.kubernetes.manifests import Manifest
from betting_operator.kubernetes.spec import Autoscaling

HPA_ENTRY = {"manager": "kube-controller-manager", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
OUR_ENTRY = {"manager": "betting-operator", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
SCALING = Autoscaling(2, 10, 60, 70)


@pytest.mark.parametrize(
    ("autoscaling", "live", "applied"),
    [
        pytest.param(None, None, 3, id="fixed"),
        pytest.param(None, {"metadata": {"managedFields": [HPA_ENTRY]}, "spec": {"replicas": 7}}, 3, id="fixed again"),
        pytest.param(Autoscaling(5, 10, 60, 70), None, 5, id="new: within the bounds"),
        pytest.param(
            SCALING,
            {"metadata": {"managedFields": [OUR_ENTRY]}, "spec": {"replicas": 3}},
            3,
            id="ours until taken over",
        ),
        pytest.param(
            SCALING,
            {"metadata": {"managedFields": [OUR_ENTRY, HPA_ENTRY]}, "spec": {"replicas": 7}},
            None,
            id="taken over",
        ),
    ],
)
def test_the_number_of_pods_is_the_autoscalers_once_it_has_set_it(
    autoscaling: Autoscaling | None, live: Manifest | None, applied: int | None
) -> None:
    assert replicas_to_apply(3, autoscaling, live) == applied


def test_the_generation_of_a_template_counts_its_changes() -> None:
    def live(template: str, generation: str) -> Manifest:
        return {
            "metadata": {
                "annotations": {
                    "selfhealing.bet/template": template,
                    "selfhealing.bet/template-generation": generation,
                }
            }
        }

    assert template_generation("a", None) == 1
    assert template_generation("a", live("a", "4")) == 4
    assert template_generation("b", live("a", "4")) == 5
    assert template_generation("a", live("b", "5")) == 6, "back to an earlier template is a newer one all the same"
    assert template_generation("a", live("a", "garbage")) == 1
