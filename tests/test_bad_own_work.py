"""A run beside bad functions of a user's own, against real TensorFlow: nothing good is lost."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import psutil
import pytest
from support import ROOT, Program

pytestmark = pytest.mark.skipif(os.name == "nt", reason="forks")
# (status, reason) by function of `support.workloads`.
EXPECTED = {
    "plain": ("ok", ""),
    "prints": ("ok", ""),
    "forks": ("ok", ""),
    "starts_others": ("ok", ""),
    "raises": (
        "failed",
        "model 'own:raises': the function, called without arguments, raised KeyError: "
        "'weights.npz' (own.py, line LINE)",
    ),
    "leaves_at_once": (
        "failed",
        "model 'own:leaves_at_once': no answer from its function: the worker ended with code 3 "
        "(os._exit?): it printed nothing; call it in Python alone to see why",
    ),
    "asks": (
        "failed",
        "model 'own:asks': the function, called without arguments, raised EOFError: EOF when "
        "reading a line (own.py, line LINE)",
    ),
    "failing_callback": (
        "failed",
        "model 'own:failing_callback': its training raised OSError: not logged in "
        "(own.py, line LINE)",
    ),
}


def left_in(folder: Path) -> list[str]:
    """The commands of the processes that work in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(folder):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def test_bad_functions_are_rows_and_the_good_ones_are_measured(
    program: Program, tmp_path: Path
) -> None:
    source = (ROOT / "tests/support/workloads.py").read_text()
    (tmp_path / "own.py").write_text(source)
    models = ",".join(f"own:{name}" for name in EXPECTED)
    words = ("--optimizers", "sgd", "--loops", "fit", "--devices", "cpu", "--batch-sizes", "16")
    short = ("--precisions", "float32", "--epochs", "1", "--launches", "1", "--no-report")
    done = program("bench", "run", "--models", models, *words, *short, "--output", "run")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    with (tmp_path / "run/results.csv").open(newline="") as lines:
        rows = {row["model"].removeprefix("own:"): row for row in csv.DictReader(lines)}
    assert {name: row["status"] for name, row in rows.items()} == {
        name: status for name, (status, _) in EXPECTED.items()
    }
    for name, (status, reason) in EXPECTED.items():
        before, _, after = reason.partition("LINE")
        assert rows[name]["reason"].startswith(before)
        assert rows[name]["reason"].endswith(after)
        assert (float(rows[name]["samples_per_s"] or 0) > 0) == (status == "ok")
    assert left_in(tmp_path) == []
