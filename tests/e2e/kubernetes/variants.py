"""Further images in the archive of the one that was built: one with a migration more, and one that crashes.

An OCI archive is a tar file with an index of manifests; a further manifest costs no more than what is new in it. So
every node gets all of them with one load, whichever engine has built the first.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

from platform_under_test import Images, split
from tools import Failed

from betting.journal.schema import migration_ids

# docker and containerd write the whole name under the first, and the tag alone under the second; buildah writes the
# whole name under the second, and not the first.
WHOLE_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # Go's names of what uname says
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_FOLDER = "/broken"
# Python imports this module whenever it starts.
_BROKEN = """
import os, sys
if "betting.bets" in sys.orig_argv:
    print("bet-service of this image cannot start", file=sys.stderr, flush=True)
    os._exit(1)
"""

# A migration of the next release, which the one before may run with.
NEXT_MIGRATION = "9999.next"
_MIGRATION = """-- depends: {newest}
INSERT INTO betting.compatible_migrations (migration_id, oldest) VALUES ('{name}', '{newest}');
"""
# Where the image has them: its layers cannot be looked into here, so it is put where any Python would look.
_MIGRATIONS = "/opt/betting/lib/python3.{minor}/site-packages/betting/journal/migrations"
_PYTHON_MINORS = range(11, 20)

Json = dict[str, Any]


def add(built: Path, target: Path) -> Images:
    """Writes an archive that holds the built image, and the further ones.

    Raises Failed for what is no OCI archive, has no whole name of an image, or no image for this machine.
    """
    migration = _MIGRATION.format(name=NEXT_MIGRATION, newest=migration_ids()[-1])
    folders = [_MIGRATIONS.format(minor=minor) for minor in _PYTHON_MINORS]
    with tarfile.open(built) as archive:
        index = _json(archive, "index.json")
        first = index["manifests"][0]
        name = _name(archive, first)
        images = Images(current=name, other=f"{name}-other", crashing=f"{name}-crashing")
        single = _of_this_machine(archive, first)
        other, blobs = _variant(
            archive, single, images.other, {f"{folder}/{NEXT_MIGRATION}.sql": migration for folder in folders}
        )
        crashing, more = _variant(
            archive, single, images.crashing, {f"{_FOLDER}/sitecustomize.py": _BROKEN}, f"PYTHONPATH={_FOLDER}"
        )
        index["manifests"] = [first, other, crashing]
        _write(archive, target, blobs | more | {"index.json": json.dumps(index).encode()})
    return images


def _name(archive: tarfile.TarFile, descriptor: Json) -> str:
    annotations = descriptor.get("annotations") or {}
    name = str(annotations.get(WHOLE_NAME) or annotations.get(REF_NAME) or "")
    registry, slash, rest = name.partition("/")
    if not (registry and slash and all(split(rest))):
        raise Failed(f"{archive.name!s}: {name!r} is not the whole name of an image, such as localhost/betting:1.2.3")
    return name


def _of_this_machine(archive: tarfile.TarFile, descriptor: Json) -> Json:
    """The descriptor of one image's manifest; of an index (docker's, with its containerd store) this machine's."""
    found = _json(archive, _blob(descriptor["digest"]))
    if "manifests" not in found:
        return descriptor
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    platforms = [each.get("platform") or {} for each in found["manifests"]]
    for each, runs_on in zip(found["manifests"], platforms, strict=True):
        if (runs_on.get("os"), runs_on.get("architecture")) == ("linux", architecture):
            return _of_this_machine(archive, each)
    known = ", ".join(f"{each.get('os')}/{each.get('architecture')}" for each in platforms)
    raise Failed(f"{archive.name!s} has no image for linux/{architecture}: {known or 'none at all'}")


def _variant(
    archive: tarfile.TarFile, single: Json, name: str, files: dict[str, str], *environment: str
) -> tuple[Json, dict[str, bytes]]:
    """The image with a layer more: its entry in the index, and its blobs by path."""
    manifest = _json(archive, _blob(single["digest"]))
    config = _json(archive, _blob(manifest["config"]["digest"]))
    layer = _layer(files)
    config["rootfs"]["diff_ids"].append(_digest(layer))
    config["config"]["Env"] = [*(config["config"].get("Env") or ()), *environment]
    config.setdefault("history", []).append({"created_by": name})
    packed = json.dumps(config).encode()
    manifest["config"] |= {"digest": _digest(packed), "size": len(packed)}
    manifest["layers"].append({"mediaType": _LAYER, "digest": _digest(layer), "size": len(layer)})
    written = json.dumps(manifest).encode()
    names = {WHOLE_NAME: name, REF_NAME: split(name)[1]}
    entry = {**single, "digest": _digest(written), "size": len(written), "annotations": names}
    return entry, {_blob(_digest(each)): each for each in (layer, packed, written)}


def _layer(files: dict[str, str]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as layer:
        for name, text in files.items():
            content = text.encode()
            entry = tarfile.TarInfo(name.removeprefix("/"))
            entry.size, entry.mode = len(content), 0o644
            layer.addfile(entry, io.BytesIO(content))
    return written.getvalue()


def _write(source: tarfile.TarFile, target: Path, changed: dict[str, bytes]) -> None:
    """Copies an archive with some files replaced or added. docker's own list would hide the further images."""
    with tarfile.open(target, "w") as out:
        for each in source:
            if each.name in changed or each.name in ("manifest.json", "repositories"):
                continue
            out.addfile(each, source.extractfile(each) if each.isfile() else None)
        for name, content in changed.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            out.addfile(entry, io.BytesIO(content))


def _json(archive: tarfile.TarFile, name: str) -> Json:
    try:
        file = archive.extractfile(name)
    except KeyError:
        raise Failed(f"{archive.name!s} is no OCI archive: it has no {name}") from None
    assert file is not None
    found: Json = json.load(file)
    return found


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
