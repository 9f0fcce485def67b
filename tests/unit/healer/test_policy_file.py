"""The healer reads its policy from a file that another process replaces: a change needs no new healer."""

from __future__ import annotations

from pathlib import Path

import pytest

from betting_operator.healer.policy_file import PolicyFile
from betting_operator.healing.policy import Policy, PolicyError, encoded

FIRST, SECOND = Policy(paused="upgrade"), Policy(dry_run=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "policy.json"
    found.write_text(encoded(FIRST))
    return found


def test_a_change_is_in_force_with_the_next_look(path: Path) -> None:
    policy = PolicyFile(path)
    assert policy() == FIRST
    path.write_text(encoded(SECOND))
    assert policy() == SECOND


@pytest.mark.parametrize("text", ["", "{", "\x00", encoded(Policy(cool_down_ms=300_000)), encoded(FIRST)[:40]])
def test_what_cannot_be_read_or_cannot_work_changes_nothing(path: Path, text: str) -> None:
    policy = PolicyFile(path)
    path.write_text(text)
    assert policy() == FIRST
    path.write_text(encoded(SECOND))
    assert policy() == SECOND


def test_a_file_that_is_gone_or_is_no_text_changes_nothing(path: Path) -> None:
    policy = PolicyFile(path)
    path.write_bytes(b"\xff\xfe")
    assert policy() == FIRST
    path.unlink()
    assert policy() == FIRST


def test_without_a_policy_to_begin_with_it_does_not_start(tmp_path: Path) -> None:
    """It would do what the platform's resource forbids."""
    with pytest.raises(PolicyError, match=r"none\.json: .*No such file"):
        PolicyFile(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text(encoded(Policy(disruptions_per_window=0)))
    with pytest.raises(PolicyError, match=r"bad\.json: disruptions_per_window is 0"):
        PolicyFile(tmp_path / "bad.json")
