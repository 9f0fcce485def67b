"""No module imports itself by way of others, whatever the import is for: also not for annotations only."""

from __future__ import annotations

from pathlib import Path

import grimp
import pytest

GENERATED = ("betting.v1.", "betting.internal.")


def circular(*packages: str) -> list[str]:
    """The imports of these packages, those under TYPE_CHECKING too, from whose module a way leads back to theirs."""
    graph = grimp.build_graph(*packages, cache_dir=None)
    imports = (
        (importer, imported)
        for importer in sorted(graph.modules)
        if not importer.startswith(GENERATED)
        for imported in sorted(graph.find_modules_directly_imported_by(importer))
    )
    return [f"{one} -> {other}" for one, other in imports if graph.chain_exists(importer=other, imported=one)]


def test_there_are_no_import_circles() -> None:
    """Two modules that need each other are one module, or one of them needs less than it imports."""
    assert circular("betting", "betting_operator") == []


def test_a_circle_for_annotations_only_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three modules in a circle, one of whose imports runs only under TYPE_CHECKING; a fourth only looks on."""
    package = tmp_path / "in_circles"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "one.py").write_text("from in_circles import two\n")
    (package / "two.py").write_text("from in_circles.three import name\n")
    (package / "three.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from in_circles.one import two\n"
    )
    (package / "four.py").write_text("from in_circles import one\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert circular("in_circles") == [
        "in_circles.one -> in_circles.two",
        "in_circles.three -> in_circles.one",
        "in_circles.two -> in_circles.three",
    ]
