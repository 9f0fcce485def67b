"""Generates the Python modules of protos/ (never committed): by default into services/, for a wheel into its build."""

from __future__ import annotations

import shutil
import sys
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Folders of generated code, below the folder that is generated into.
PACKAGES = ("betting/v1", "betting/internal")


def generate(out: Path) -> int:
    """Replaces betting/v1 and betting/internal below `out`. Returns how many protos there were.

    Raises RuntimeError when protoc refuses one; it has then said why on standard error.
    """
    from grpc_tools import protoc

    protos = sorted(str(p.relative_to(ROOT / "protos")) for p in (ROOT / "protos").rglob("*.proto"))
    for package in PACKAGES:
        shutil.rmtree(out / package, ignore_errors=True)
    well_known = resources.files("grpc_tools") / "_proto"
    arguments = [
        "protoc",
        f"-I{ROOT / 'protos'}",
        f"-I{well_known}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpc_python_out={out}",
        *protos,
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc could not generate the code of protos/")
    for package in (*PACKAGES, "betting/internal/v1"):
        (out / package / "__init__.py").write_text('"""Generated from protos/; do not edit."""\n')
    return len(protos)


def main() -> int:
    """Generates into this checkout."""
    count = generate(ROOT / "services")
    print(f"generated {count} protos into services/betting")
    return 0


if __name__ == "__main__":
    sys.exit(main())
