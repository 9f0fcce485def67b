"""Settings of the healer (BETTING_*)."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from betting.runtime.settings import ServiceSettings, split_address
from betting_operator.healing.policy import Policy

# RFC 1123, what a namespace and a label's value may both be.
_KUBERNETES_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class HealerSettings(ServiceSettings):
    """The settings of the healer. `healing.policy` refuses a budget that cannot work."""

    # On one machine: address of the supervisor, host:port. Set this, or the two that follow.
    supervisor: str = ""
    # On Kubernetes: the namespace whose pods it watches; the API server by the pod's ServiceAccount or KUBECONFIG.
    kubernetes_namespace: str = ""
    # On Kubernetes: name of the BettingPlatform, as the label app.kubernetes.io/instance of its pods has it.
    kubernetes_platform: str = ""
    # Folder of the flight record.
    flight_folder: Path
    # Interval of the healing loop while something is wrong; otherwise twice as long.
    tick: timedelta = Field(default=timedelta(milliseconds=500), gt=timedelta(0), le=timedelta(seconds=1))

    # Repeated kills of one service that are allowed within five minutes.
    heal_budget: int = Field(default=Policy().disruptions_per_window, ge=1, le=10_000)
    # File of the whole policy, the budget included, read at each tick; on Kubernetes the operator writes it.
    heal_policy_file: Path | None = None

    @field_validator("supervisor")
    @classmethod
    def _supervisor_has_host_and_port(cls, value: str) -> str:
        if value:
            split_address(value)
        return value

    @field_validator("kubernetes_namespace", "kubernetes_platform")
    @classmethod
    def _is_a_name_of_kubernetes(cls, value: str) -> str:
        if value and not _KUBERNETES_NAME.fullmatch(value):
            raise ValueError("use 1 to 63 small letters, digits and dashes, with a letter or digit at both ends")
        return value

    @model_validator(mode="after")
    def _one_platform_underneath(self) -> Self:
        """Raises ValueError, which names the variables."""
        kubernetes = {
            "BETTING_KUBERNETES_NAMESPACE": self.kubernetes_namespace,
            "BETTING_KUBERNETES_PLATFORM": self.kubernetes_platform,
        }
        given = [name for name, value in kubernetes.items() if value]
        if self.supervisor and given:
            raise ValueError(
                f"BETTING_SUPERVISOR and {' and '.join(given)} are set: the healer works on one machine or on "
                "Kubernetes, remove the one that it does not run on"
            )
        if not self.supervisor and len(given) < len(kubernetes):
            missing = " and ".join(name for name in kubernetes if name not in given)
            either = "" if given else "BETTING_SUPERVISOR (on one machine), or "
            raise ValueError(f"{either}{missing}{'' if given else ' (on Kubernetes)'} must be set")
        return self
