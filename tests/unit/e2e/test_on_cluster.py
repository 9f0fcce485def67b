"""The exit code of a program that proves something on a cluster."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import cluster_under_test
import pytest
from cluster_under_test import on_cluster
from tools import Failed

OPTIONS = argparse.Namespace(use_running=True, no_build=True, keep=False)


@pytest.fixture(autouse=True)
def _built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The image is there; and SIGTERM does afterwards what it did before."""
    monkeypatch.setattr(cluster_under_test, "IMAGE", tmp_path / "betting.tar")
    (tmp_path / "betting.tar").touch()
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("code", [0, 1])
def test_it_is_that_of_the_proof(code: int) -> None:
    assert on_cluster(OPTIONS, lambda _options: code) == code


def test_what_could_not_be_tried_is_an_error_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(_options: argparse.Namespace) -> int:
        raise Failed("no node is ready")

    assert on_cluster(OPTIONS, fails) == 1
    assert capsys.readouterr().err == "error: no node is ready\n"
    cluster_under_test.IMAGE.unlink()
    assert on_cluster(OPTIONS, fails) == 1
    assert "build it (make image)" in capsys.readouterr().err


def test_sigterm_interrupts_it(capsys: pytest.CaptureFixture[str]) -> None:
    def is_killed(_options: argparse.Namespace) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    assert on_cluster(OPTIONS, is_killed) == 130
    assert capsys.readouterr().err == "interrupted\n"
