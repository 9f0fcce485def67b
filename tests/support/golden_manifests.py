"""Golden manifests: all that the operator makes of a few platforms, as it was read and found right.

`make golden-manifests` writes them again after a change of what the operator makes: read the difference.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import platforms
import yaml

from betting_operator.kubernetes.reconcile import wanted
from betting_operator.kubernetes.spec import Platform, parse, referenced_secrets

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "kubernetes"
# What the platforms are described in, by the name of the golden file.
INPUTS = {
    "platform": platforms.EXAMPLES / "platform.yaml",
    "production": platforms.EXAMPLES / "production.yaml",
    "managed": FOLDER / "managed.input.yaml",
    "external": FOLDER / "external.input.yaml",
}
PASSWORD = "0123456789abcdef" * 4


class _Plain(yaml.SafeDumper):
    """Without anchors: every object stands for itself."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def resource(name: str, namespace: str = "betting") -> dict[str, Any]:
    """The BettingPlatform of a golden file, as the API server returns it."""
    return platforms.read(INPUTS[name], namespace)


def manifests(platform: Platform) -> list[dict[str, Any]]:
    """All objects of a platform that has just got its first Redis primary, with a password that is always the same."""
    return wanted(
        platform,
        existing={},
        hashes={key.name: "of-its-data" for key in referenced_secrets(platform)},
        primary=f"{platform.name}-redis-0",
        new_password=lambda: PASSWORD,
        external_dsn="postgresql://betting:password@postgres.example.com:5432/betting",
    )


def rendered(name: str) -> str:
    """What the golden file should be."""
    objects = manifests(parse(resource(name), platforms.OWN_IMAGE))
    return yaml.dump_all(objects, Dumper=_Plain, sort_keys=False, width=120)


def path(name: str) -> Path:
    """The golden file."""
    return FOLDER / f"{name}.yaml"


def main() -> None:
    """Writes them all."""
    for name in INPUTS:
        path(name).write_text(rendered(name), "utf-8")


if __name__ == "__main__":
    main()
