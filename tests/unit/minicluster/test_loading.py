"""Images come into a node although its container engine may take an unfinished import away."""

from __future__ import annotations

from pathlib import Path

import pytest
from minicluster import node
from minicluster.host import ClusterError


@pytest.mark.parametrize(("failures", "loaded"), [(0, True), (2, True), (3, False)])
def test_an_import_is_tried_three_times(failures: int, loaded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of the last time is told."""
    commands: list[list[str]] = []

    def run(command: list[str]) -> str:
        commands.append(command)
        if len(commands) <= failures:
            raise ClusterError(f"failed to ingest, time {len(commands)}")
        return ""

    monkeypatch.setattr(node, "run", run)
    monkeypatch.setattr(node, "entering", lambda _name, command: command)
    if loaded:
        node.load_images(node.Node(1), [Path("/image.tar")])
    else:
        with pytest.raises(ClusterError, match="time 3"):
            node.load_images(node.Node(1), [Path("/image.tar")])
    assert len(commands) == min(failures + 1, 3)
    assert all(command[-1] == "/image.tar" for command in commands)
