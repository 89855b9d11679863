"""What stands in for machines, GPUs, workers and the user's models, in every test alike."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "tests" / "recorded"
# What the fixtures `program` and `type_in` give: a child, or exit code and both streams.
Program = Callable[..., subprocess.CompletedProcess[str]]
TypeIn = Callable[..., tuple[int, str, str]]
# Speaks the protocol of a worker, and does what a script says.
FAKE_WORKER = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))
