"""What stands in for machines, GPUs, workers and the user's models, in every test alike."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "tests" / "recorded"
# Speaks the protocol of a worker, and does what a script says.
FAKE_WORKER = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))
