"""The file of acknowledgements has every line, however the writing ends."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from betting.drills import acks


@pytest.mark.parametrize("pauses", range(6))
async def test_everything_added_is_on_the_disk_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: int
) -> None:
    """Also what a flush had already taken when the writing ended: a line lost here would never be audited."""
    monkeypatch.setattr(acks, "FLUSH_INTERVAL_S", 0.0005)
    path = tmp_path / "acks.jsonl"
    async with acks.writing(path) as file:
        for number in range(300):
            file.add({"number": number})
            if number % 7 < pauses:
                await asyncio.sleep(0)
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == list(range(300))
    assert file.written == 300


async def test_an_error_of_the_demo_still_leaves_what_was_acknowledged(tmp_path: Path) -> None:
    """The file is the evidence when something else failed."""
    path = tmp_path / "acks.jsonl"
    with pytest.raises(RuntimeError, match="the demo failed"):
        await _fail_while_writing(path)
    assert json.loads(path.read_text()) == {"number": 1}


async def _fail_while_writing(path: Path) -> None:
    async with acks.writing(path) as file:
        file.add({"number": 1})
        raise RuntimeError("the demo failed")
