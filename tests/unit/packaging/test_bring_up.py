"""`make platform` tags the image by what it is made of, and knows when the platform of that image takes bets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from betting.release import version

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def bring_up(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module; hack/ is no package."""
    monkeypatch.syspath_prepend(str(ROOT / "hack"))
    import bring_up

    return bring_up


def test_the_tag_is_of_everything_that_the_image_is_built_from(bring_up: Any) -> None:
    """.dockerignore says what that is."""
    sent = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE)
    named = [Path(each) for each in bring_up.SOURCES]
    assert [each for each in sent if not any(Path(each).is_relative_to(name) for name in named)] == []


def test_the_tag_changes_with_a_source_and_with_nothing_else(
    bring_up: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bring_up, "ROOT", tmp_path)
    for name in bring_up.SOURCES:
        path = tmp_path / name
        (path.parent if path.suffix or name == "LICENSE" else path).mkdir(parents=True, exist_ok=True)
        if path.suffix or name == "LICENSE":
            path.write_text(name)
    first = bring_up.tag()
    assert re.fullmatch(re.escape(version()) + r"-[0-9a-f]{12}", first)
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / "services" / "one.pyc").write_text("x")
    assert bring_up.tag() == first
    (tmp_path / "services" / "one.py").write_text("x")
    second = bring_up.tag()
    assert second != first
    (tmp_path / "services" / "one.py").rename(tmp_path / "services" / "two.py")
    assert bring_up.tag() not in {first, second}


def _platform(ready: str, runs: str, **spec: Any) -> dict[str, Any]:
    return {"spec": spec, "status": {"image": runs, "conditions": [{"type": "Ready", "status": ready}]}}


def test_a_platform_is_up_when_it_takes_bets_and_is_of_the_new_image(bring_up: Any) -> None:
    assert not bring_up.is_up({"spec": {}}, "2")
    assert not bring_up.is_up(_platform("False", "localhost/betting:2"), "2")
    assert not bring_up.is_up(_platform("True", "localhost/betting:1"), "2")
    assert bring_up.is_up(_platform("True", "localhost/betting:2"), "2")
    assert bring_up.is_up(_platform("True", "mine:1", image={"repository": "mine"}), "2")
