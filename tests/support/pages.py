"""Runs and profiles for a page."""

from __future__ import annotations

import csv
from pathlib import Path

from bench.schema.case import Case
from support import ROOT

REFERENCE = ROOT / "results/reference"
SET_UPS = ROOT / "results/examples/set-ups"
FIT, COMPILED = (Case("relu_mlp", "adam", loop) for loop in ("fit", "compiled"))
BIG = Case("relu_mlp", "adam", "compiled", batch_size=512)
HALF = Case("relu_mlp", "adam", "compiled", precision="mixed_bfloat16")
SOFTMAX = Case("softmax", "sgd", "fit")
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> \"'& 한글 {{7*7}}"
USUAL = {FIT: (4.0, 0.86), COMPILED: (0.4, 0.87)}


def write_profile(path: Path, phase: str) -> Path:
    """A folder as `fmnist-bench profile` leaves it, with a case that failed."""
    path.mkdir()
    with (path / "profile.csv").open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows(
            [
                ("case", "phase", "share", "seconds_per_step"),
                (FIT.id, phase, 0.25, 0.001),
                (FIT.id, "forward", 0.75, 0.003),
                (COMPILED.id, "", "", ""),
            ]
        )
    return path
