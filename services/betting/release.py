"""Which release of the platform this is."""

from __future__ import annotations

from importlib import metadata

DISTRIBUTION = "self-healing-betting-platform"


def version() -> str:
    """The release, such as "0.1.0"; "unknown" where the package was not installed but put on a path."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"
