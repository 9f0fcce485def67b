"""Hatch runs this for every wheel: the code of protos/ is generated then, so that no install lacks it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

EDITABLE = "editable"


class GeneratedCode(BuildHookInterface):  # type: ignore[type-arg]
    """A wheel gets the code from a temporary folder: sources may be read-only. An editable install gets it in place."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generates before anything is packed."""
        sys.path.insert(0, str(Path(__file__).parent))
        try:
            import gen
        finally:
            del sys.path[0]
        if version == EDITABLE:
            gen.generate(Path(self.root) / "services")
            return
        self._folder = Path(tempfile.mkdtemp(prefix="betting-generated-"))
        gen.generate(self._made())
        for package in gen.PACKAGES:
            build_data["force_include"][str(self._made() / package)] = package

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes what was generated for the wheel."""
        if version != EDITABLE:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _made(self) -> Path:
        (self._folder / "betting").mkdir(exist_ok=True)
        return self._folder
