"""A finished run is read in full once, and again only where something of it is another."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.evidence.made_runs import make_run, many_cases
from bench.machine.loaded import CHECKOUT
from bench.schema.runs import MeasuredRun
from bench.store import proof
from bench.store.filetypes import RESULTS
from bench.store.measured import read_in_full, read_run
from fmnist_models.errors import UserError

EXAMPLES = sorted(file.parent for file in CHECKOUT.glob("results/examples/**/rounds.csv"))


def figures(run: MeasuredRun) -> str:
    """All of a run but where its files are."""
    parts = run.environment, run.rows, run.logs, run.scores, run.efficiencies, run.target_logs
    return "\n".join(repr(dict(part)) for part in parts)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The folder of a made run that has its proof."""
    path = make_run(tmp_path / "run", 1, many_cases(30))
    proof.keep_proof(read_in_full(path))
    assert proof.proven(path) is not None
    return path


def test_every_figure_is_as_if_read_in_full(path: Path) -> None:
    run, full = read_run(path), read_in_full(path)
    assert figures(run) == figures(full)
    assert run.whole is not None
    assert full.whole is not None
    assert repr(run.whole()) == repr(full.whole())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: str(e.relative_to(CHECKOUT)))
def test_a_proof_of_a_real_run_says_the_same(example: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(example, path)
    full = read_in_full(path)
    proof.keep_proof(full)
    known = proof.proven(path)
    # An earlier version wrote fewer columns, so that there is nothing to prove.
    assert known is None or figures(known) == figures(full)


def test_a_changed_figure_is_refused_as_without_a_proof(path: Path) -> None:
    table = path / "results.csv"
    content = table.read_text("utf-8")
    value = next(iter(read_run(path).rows.values()))["samples_per_s"]
    assert repr(value) in content
    table.write_text(content.replace(repr(value), repr(2 * value)), encoding="utf-8")
    with pytest.raises(UserError, match="disagrees with the run's other files"):
        read_run(path)


@pytest.mark.parametrize("name", proof.FILES)
def test_it_holds_for_the_very_files_alone(path: Path, name: str) -> None:
    file = path / name
    file.write_bytes(file.read_bytes() + b"\n")
    assert proof.proven(path) is None
    file.unlink()
    assert proof.proven(path) is None


def test_it_holds_for_the_very_code_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "_code", lambda: "another revision")
    assert proof.proven(path) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": 3}', "\0"])
def test_a_damaged_proof_proves_nothing(path: Path, content: str) -> None:
    (path / proof.NAME).write_text(content)
    assert proof.proven(path) is None
    assert figures(read_run(path)) == figures(read_in_full(path))


def test_no_proof_of_what_results_csv_does_not_say(path: Path) -> None:
    (path / proof.NAME).unlink()
    table = path / "results.csv"
    rows = [line.split(",") for line in table.read_text("utf-8").splitlines()]
    row = next(iter(read_in_full(path).rows.values()))
    later = next(name for name in rows[0] if name in RESULTS.later and row[name])
    place = rows[0].index(later)
    table.write_text("".join(",".join(r[:place] + r[place + 1 :]) + "\n" for r in rows))
    proof.keep_proof(read_in_full(path))
    assert not (path / proof.NAME).exists()


def test_a_damaged_figure_proves_nothing(path: Path) -> None:
    file = path / proof.NAME
    content = file.read_text("utf-8")
    (value, *_) = next(iter(read_in_full(path).logs.values()))
    assert content.count(repr(value)) == 1
    file.write_text(content.replace(repr(value), repr(value + 0.1)), "utf-8")
    assert proof.proven(path) is None
    assert figures(read_run(path)) == figures(read_in_full(path))
