"""The images of one program each are what the OCI image specification says."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from minicluster import images


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "probe"
    path.write_bytes(b"\x7fELF" + bytes(5000))
    return path


def read(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar.getmembers()}  # type: ignore[union-attr]


def blob(files: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    """The content that a descriptor names; its digest and size are as the descriptor says."""
    content = files["blobs/" + descriptor["digest"].replace(":", "/")]
    assert "sha256:" + hashlib.sha256(content).hexdigest() == descriptor["digest"]
    assert len(content) == descriptor["size"]
    return content


def test_from_the_index_to_the_program_every_digest_is_right(program: Path) -> None:
    files = read(images.archive(program))
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (described,) = json.loads(files["index.json"])["manifests"]
    assert described["annotations"]["io.containerd.image.name"] == "localhost/probe:local"
    manifest = json.loads(blob(files, described))
    config = json.loads(blob(files, manifest["config"]))
    (layer,) = manifest["layers"]
    assert config["rootfs"]["diff_ids"] == [layer["digest"]]
    assert config["config"]["Entrypoint"] == ["/probe"]
    content = program.with_name("layer.tar")
    content.write_bytes(blob(files, layer))
    with tarfile.open(content) as tar:
        (entry,) = tar.getmembers()
        assert (entry.name, entry.mode) == ("probe", 0o755)
        assert tar.extractfile(entry).read() == program.read_bytes()  # type: ignore[union-attr]


def test_an_archive_is_made_once_and_leaves_nothing_beside_it(program: Path) -> None:
    first = images.archive(program)
    made_at = first.stat().st_mtime_ns
    assert images.archive(program) == first
    assert first.stat().st_mtime_ns == made_at
    assert sorted(path.name for path in program.parent.iterdir()) == ["probe", "probe.image.tar"]
