"""The end-to-end proof is a program of tests/e2e, not a package of the platform."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "e2e" / "kubernetes"))
