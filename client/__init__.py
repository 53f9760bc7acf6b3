"""Launchers for a checkout: ``headrace consume`` and ``headrace produce``, by default with the demo's tasks."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # a checkout runs its own code
os.environ["HEADRACE_APP"] = os.environ.get("HEADRACE_APP") or "headrace.demo.tasks"
