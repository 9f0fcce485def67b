"""Settings of the operator process: environment variables OPERATOR_*, which the chart sets."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from betting.runtime.errors import ConfigurationError
from betting_operator.kubernetes.spec import Image


class OperatorSettings(BaseSettings):
    """pod, pod_ip: of this process. namespace: the one it works in. image: its own, which platforms run by default."""

    model_config = SettingsConfigDict(env_prefix="OPERATOR_", extra="ignore", frozen=True)

    pod: str = Field(min_length=1)
    namespace: str = Field(min_length=1)
    pod_ip: str = Field(min_length=1)
    image: str = Field(min_length=1)
    # Names of Secrets, comma-separated.
    image_pull_secrets: str = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    # Port of /healthz, /readyz and /metrics.
    http_port: int = Field(default=8081, ge=1, le=65_535)

    def own_image(self) -> Image:
        """The image that this process runs from."""
        names = tuple(name.strip() for name in self.image_pull_secrets.split(",") if name.strip())
        return Image(self.image, "IfNotPresent", names)


def load() -> OperatorSettings:
    """Raises ConfigurationError that names the variable."""
    try:
        return OperatorSettings()  # type: ignore[call-arg]  # from the environment
    except ValidationError as error:
        first = error.errors()[0]
        name = "OPERATOR_" + "_".join(str(part) for part in first["loc"]).upper()
        raise ConfigurationError(f"{name}: {first['msg']}") from None
