"""Container images of one static program each, as OCI archives made without a container engine."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import tarfile
from pathlib import Path
from typing import Any

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def image_name(program: str) -> str:
    """The name under which pods use the image of a program."""
    return f"localhost/{program}:local"


def archive(program: Path) -> Path:
    """The image of a static program, whose entry point it is, as an OCI archive beside it; made where it is not there.

    The program is the whole image: no shell, no user database, no certificates.
    """
    target = program.with_name(f"{program.name}.image.tar")
    if target.exists():
        return target
    unfinished = target.with_suffix(f".{os.getpid()}")
    with tarfile.open(unfinished, "w") as out:
        _write(out, unfinished.with_suffix(".layer"), program)
    unfinished.rename(target)
    return target


def _write(out: tarfile.TarFile, layer: Path, program: Path) -> None:
    with tarfile.open(layer, "w") as tar:
        entry = tarfile.TarInfo(program.name)
        entry.size, entry.mode = program.stat().st_size, 0o755
        with program.open("rb") as content:
            tar.addfile(entry, content)
    with layer.open("rb") as content:
        digest = "sha256:" + hashlib.file_digest(content, "sha256").hexdigest()
        content.seek(0)
        _add(out, _blob_path(digest), content, layer.stat().st_size)
    layer_descriptor = {"mediaType": _LAYER, "digest": digest, "size": layer.stat().st_size}
    layer.unlink()
    machine = platform.machine()
    config = {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"]},
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _add_blob(out, _CONFIG, config),
        "layers": [layer_descriptor],
    }
    described = _add_blob(out, _MANIFEST, manifest)
    # containerd takes the name from the first annotation, other tools take the tag from the second.
    name = image_name(program.name)
    described["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": "local"}
    _add_json(out, "index.json", {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [described]})
    _add_json(out, "oci-layout", {"imageLayoutVersion": "1.0.0"})


def _add_blob(out: tarfile.TarFile, media_type: str, value: dict[str, Any]) -> dict[str, Any]:
    """Add a document under its digest; return its descriptor."""
    content = json.dumps(value).encode()
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    _add_json(out, _blob_path(digest), value)
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _add_json(out: tarfile.TarFile, path: str, value: dict[str, Any]) -> None:
    content = json.dumps(value).encode()
    _add(out, path, io.BytesIO(content), len(content))


def _add(out: tarfile.TarFile, path: str, content: Any, size: int) -> None:
    entry = tarfile.TarInfo(path)
    entry.size = size
    out.addfile(entry, content)


def _blob_path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")
