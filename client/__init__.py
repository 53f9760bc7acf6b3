"""Launchers for a checkout; installed, the same commands are ``headrace consume`` and ``headrace produce``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # a checkout runs its own code
