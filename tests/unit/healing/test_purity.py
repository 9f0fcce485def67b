"""The brain is deterministic: a decision depends on its arguments alone, or its record could not be replayed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import betting_operator.healing

FOLDER = Path(next(iter(betting_operator.healing.__path__)))
ALLOWED = {
    "__future__",
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "json",
    "re",
    "statistics",
    "types",
    "typing",
}


@pytest.mark.parametrize("module", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_only_the_quiet_part_of_the_standard_library_is_imported(module: Path) -> None:
    """No clock, no randomness, no I/O, nothing asynchronous; of the platform, lives and where shards should be."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        assert not isinstance(node, ast.AsyncFunctionDef)
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            ours = name.startswith("betting_operator.healing") or name in ("betting.placement", "betting.life")
            assert ours or name.partition(".")[0] in ALLOWED, name
