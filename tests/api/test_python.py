"""The suite from Python: the same figures as the verbs', typed, and errors of one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import FAKE_WORKER, ROOT, TypeIn
from support.run_folders import write_run

import bench
from bench.api import frames, measuring
from bench.launch.launcher import CAN_FORK, Launcher
from bench.machine import placement
from bench.schema.case import Case
from bench.schema.columns import RESULT_COLUMNS, ROUND_COLUMNS
from bench.schema.errors import NotComparable
from bench.schema.launch import Status
from bench.session import find_batch, inspection
from bench.session import run as session_run
from bench.session.attempts import RunUnderWay

forks = pytest.mark.skipif(not CAN_FORK, reason="the fake worker forks")
ONE = {"loops": "fit", "devices": "cpu", "batch_sizes": 32, "precisions": ["float32"]}
FAST, SLOW = Case("softmax", "adam", "fit"), Case("softmax", "sgd", "compiled")


def builder() -> Any:
    """Never called: the fake worker builds nothing."""


@pytest.fixture
def measure(
    tmp_path: Path, small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., bench.Run]:
    """`bench.run` with launches whose epochs take one second, and temporary folders of its own."""
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"rounds": [1.0, 1.0]}]))
    monkeypatch.setenv("FAKE_WORKER_SCRIPT", str(script))
    for starter in (session_run, inspection, find_batch):
        monkeypatch.setattr(
            starter, "Launcher", lambda data=None, watch=None: Launcher(FAKE_WORKER, data)
        )
    facts = {f"{__name__}:{name}": {"samples": 64} for name in ("builder", "lambda")}
    monkeypatch.setenv("FAKE_FACTS", json.dumps(facts))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))

    def go(models: Any = "softmax", **options: Any) -> bench.Run:
        return bench.run(models, **{**ONE, "epochs": 2, "data": small_data, **options})

    return go


def folders(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "tmp").iterdir()]


def test_importing_the_package_imports_nothing_else() -> None:
    code = (
        "import sys; before = set(sys.modules); import bench\n"
        "assert {'run', 'compare', 'load', 'Run', 'Compared', 'UserError'} <= set(dir(bench))\n"
        "print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['bench']"


def test_there_is_nothing_else_in_the_package() -> None:
    with pytest.raises(AttributeError, match="module 'bench' has no attribute 'measure'"):
        bench.measure  # noqa: B018


@forks
def test_a_run_is_measured_and_removed_with_its_object(
    measure: Callable[..., bench.Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = measure(["softmax", "relu_mlp"], optimizers=["adam"])
    assert list(run.rows["case"]) == [
        "softmax-adam-fit-cpu-b32-float32",
        "relu_mlp-adam-fit-cpu-b32-float32",
    ]
    assert list(run.rounds["seconds"]) == [1.0] * 4
    assert "2 launches of 2 cases" in capsys.readouterr().out
    assert run.folder.is_relative_to(tmp_path / "tmp")
    saved = run.save(tmp_path / "kept" / "run")
    del run
    assert folders(tmp_path) == []
    pd.testing.assert_frame_equal(
        bench.load(saved).rounds, bench.load(tmp_path / "kept/run").rounds
    )


@forks
def test_functions_reach_the_workers_and_leave_no_trace(
    measure: Callable[..., bench.Run], capsys: pytest.CaptureFixture[str]
) -> None:
    sent: dict[str, Any] = {}
    begin = RunUnderWay.to_the_end

    def spying(self: RunUnderWay, **words: Any) -> Any:
        sent.update(json.loads(Path(os.environ["FMNIST_FUNCTIONS"]).read_text()))
        return begin(self, **words)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RunUnderWay, "to_the_end", spying)
        run = measure([builder, lambda: None], optimizers="adam", progress=False)
    assert list(run.rows["model"]) == [f"{__name__}:builder", f"{__name__}:lambda"]
    assert list(sent["functions"]) == [f"{__name__}:lambda"]
    assert str(Path(__file__).parent) in sent["path"]
    assert "FMNIST_FUNCTIONS" not in os.environ
    assert capsys.readouterr() == ("", "")


def test_a_notebook_that_calls_itself_a_terminal_gets_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    measuring._progress(True).waits("another run measures")
    assert capsys.readouterr().out == "waiting: another run measures\n"


@forks
def test_a_run_with_an_output_stays(measure: Callable[..., bench.Run], tmp_path: Path) -> None:
    run = measure(output=tmp_path / "mine", optimizers="adam")
    assert run.folder == tmp_path / "mine"
    plan = json.loads((tmp_path / "mine" / "plan.json").read_text())
    assert plan["command"].startswith("fmnist-bench run --models softmax --loops fit --devices cpu")
    del run
    assert (tmp_path / "mine" / "results.csv").exists()
    again = measuring.run(resume=tmp_path / "mine", progress=False)
    assert list(again.rows["status"]) == ["ok"]


@forks
def test_a_run_of_sent_functions_is_not_resumed(
    measure: Callable[..., bench.Run], tmp_path: Path, type_in: TypeIn
) -> None:
    mine = tmp_path / "mine"
    measure([builder, lambda: None], optimizers="adam", output=mine, progress=False)
    assert json.loads((mine / "plan.json").read_text())["sent"] == [f"{__name__}:lambda"]
    line = f"{mine} trains {__name__}:lambda, a function that was sent to its processes and is kept"
    with pytest.raises(bench.UserError) as refused:
        bench.run(resume=mine)
    assert str(refused.value).startswith(line)
    code, _, err = type_in("run", "--resume", mine)
    assert (code, f"fmnist-bench: error: {line}" in err) == (2, True)


@forks
def test_a_stopped_run_raises_and_leaves_nothing(
    measure: Callable[..., bench.Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(self: RunUnderWay, case: Case, launch: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RunUnderWay, "measure_launch", stopped)
    with pytest.raises(KeyboardInterrupt):
        measure(optimizers="adam")
    assert folders(tmp_path) == []


@forks
def test_it_trains_with_the_largest_batch_that_fits(
    measure: Callable[..., bench.Run], capsys: pytest.CaptureFixture[str]
) -> None:
    script = {"rounds": [1.0, 1.0], "largest": 100}
    Path(os.environ["FAKE_WORKER_SCRIPT"]).write_text(json.dumps([script]))
    run = measure(optimizers="adam", batch_sizes=None, find_batch=True, progress=False)
    assert 94 <= run.rows["batch_size"][0] <= 100
    assert (run.folder / "find_batch.csv").exists()
    assert capsys.readouterr() == ("", "")


@forks
def test_without_progress_nothing_is_printed_about_the_backend(
    measure: Callable[..., bench.Run],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(placement, "default_backend", lambda: "jax")
    for progress in (True, False):
        measure(optimizers="adam", progress=progress)
        assert ("backend jax: " in capsys.readouterr().err) is progress


def test_a_finished_run_that_cannot_be_read_is_kept(
    measure: Callable[..., bench.Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(folder: Path) -> bench.Run:
        raise bench.UserError("rounds.csv line 2")

    monkeypatch.setattr(measuring, "load", refusing)
    with pytest.raises(bench.UserError, match=r"line 2; the files of the run are in .+") as told:
        measure(optimizers="adam", progress=False)
    kept = Path(str(told.value).rpartition(" in ")[2])
    assert (kept / "results.csv").exists()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"batch_size": 1}, "batch_size: no option of a run; choose from matrix, models, "),
        ({"batch_sizes": [32, 0]}, "batch_sizes 0: must be at least 1"),
        ({"epochs": "2"}, "epochs='2': must be a whole number"),
        ({"epochs": True}, "epochs=True: must be a whole number"),
        ({"label": 3}, "label=3: must be text"),
        ({"output": ""}, "output '': it is empty, maybe from an unset variable; give a value"),
        ({"find_batch": True, "batch_sizes": 32}, "batch_sizes 32: find_batch finds them; leave"),
        ({"fresh": 1}, "fresh=1: must be True or False"),
        ({"accuracy_target": 2}, "accuracy_target 2: must be above 0 and at most 1"),
        ({"models": 3}, "models: 3: name it as module:function, or pass the function"),
        ({"loops": "fast"}, "unknown loop 'fast': choose from fit, multistep, compiled"),
        ({"resume": "nowhere"}, "models softmax: resume takes it from the folder; leave models"),
        (
            {"models": None, "devices": None, "resume": "nowhere", "find_batch": True},
            "find_batch: resume takes the batch sizes from the folder; leave it out",
        ),
    ],
)
def test_a_mistake_is_one_line_in_the_words_of_python(
    options: dict[str, Any], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with pytest.raises(bench.UserError) as refused:
        bench.run(**{"models": "softmax", "devices": "cpu", **options})
    assert str(refused.value).startswith(line)
    assert folders(tmp_path) == []


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    cases = {FAST: (2.0, 0.85), SLOW: (1.0, 0.85)}
    skipped = {Case("softmax", "sgd", "fit", "gpu"): (Status.SKIPPED, "there is no GPU")}
    return (
        write_run(tmp_path / "a", cases, label="before", reasons=skipped),
        write_run(tmp_path / "b", {**cases, FAST: (1.0, 0.86)}, label="after"),
    )


def test_tables_have_the_types_of_their_columns(runs: tuple[Path, Path]) -> None:
    run = bench.load(runs[0])
    rows, rounds = run.rows, run.rounds
    assert tuple(rows.columns) == RESULT_COLUMNS
    assert tuple(rounds.columns) == ROUND_COLUMNS
    kinds = {str(kind) for frame in (rows, rounds) for kind in frame.dtypes}
    assert kinds == {"string", "Int64", "Float64", "boolean"}
    for name, kind in (
        ("case", "string"),
        ("status", "string"),
        ("batch_size", "Int64"),
        ("threads", "Int64"),
        ("samples_per_s", "Float64"),
        ("score_reached", "boolean"),
        ("better", "string"),
    ):
        assert str(rows.dtypes[name]) == kind, name
    skipped = rows[rows["status"] == "skipped"].iloc[0]
    assert skipped["samples_per_s"] is pd.NA
    assert skipped["reason"] == "there is no GPU"
    assert rows["threads"].isna().all()
    assert rows["samples_per_s"].dropna().tolist() == pytest.approx([24_000, 47_525], rel=1e-3)
    assert rounds["val_score"].max() == 0.85


def test_a_change_of_a_table_does_not_change_the_run(runs: tuple[Path, Path]) -> None:
    run = bench.load(runs[0])
    rows = run.rows
    rows["status"] = "failed"
    assert set(run.rows["status"]) == {"ok", "skipped"}
    with pytest.raises(AttributeError):
        run.folder = Path()  # type: ignore[misc]


def test_a_column_of_each_kind_of_annotation() -> None:
    assert frames.RESULTS["energy_covers"] == "string"
    assert frames.RESULTS["precision_share"] == "Float64"
    assert frames.ROUNDS["evaluation_s"] == "Float64"
    assert frames.ROUNDS["attempt"] == "Int64"
    assert frames.COMPARISON["ratio_low"] == "Float64"


def test_a_notebook_shows_the_rows(runs: tuple[Path, Path]) -> None:
    shown = bench.load(runs[0])._repr_html_()
    assert "<table" in shown
    assert FAST.id in shown
    assert "there is no GPU" in shown
    assert "24,000" in shown
    assert repr(bench.load(runs[0])) == f"<Run of 3 cases in {runs[0]}>"


def test_the_figure_is_the_picture_of_the_run(runs: tuple[Path, Path]) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    figure = bench.load(runs[0]).figure()
    labels = {axes.get_label() for axes in figure.axes}
    assert {"throughput", "batches", "precisions"} <= labels
    assert dict(mpl.rcParams) == before
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    assert figure.axes[0].get_xticklabels()[0].get_fontfamily() == ["DejaVu Sans"]


def test_it_compares_as_the_verb_does(
    runs: tuple[Path, Path], type_in: TypeIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    a, b = runs
    found = bench.compare(bench.load(a), b)
    assert found.verdict.startswith("after: 1.414 times the samples/s of before (geometric mean of")
    assert found.verdict in found.text
    assert list(found.table["ratio"].dropna()) == pytest.approx([2.0, 1.0])
    assert str(found.table.dtypes["ratio_low"]) == "Float64"
    assert str(found) == found.text
    assert found._repr_html_().startswith("<pre>")
    monkeypatch.chdir(tmp_path)
    _, told, _ = type_in("compare", a, b)
    # The verb adds the paths of its files, on a narrower screen.
    assert told.replace("\n", " ").split()[:4] == found.text.split()[:4]


def test_runs_of_other_work_are_not_compared(runs: tuple[Path, Path], tmp_path: Path) -> None:
    other = write_run(tmp_path / "c", {FAST: (1.0, 0.8)}, epochs=5)
    with pytest.raises(NotComparable, match="epochs"):
        bench.compare(runs[0], other)
    with pytest.raises(bench.UserError, match="there is no such folder"):
        bench.load(tmp_path / "nowhere")


def test_a_folder_that_holds_something_is_kept(runs: tuple[Path, Path], tmp_path: Path) -> None:
    run = bench.load(runs[0])
    with pytest.raises(bench.UserError, match="is there already, and not empty: name another"):
        run.save(runs[1])
    (tmp_path / "file").touch()
    with pytest.raises(bench.UserError, match="file is there already"):
        run.save(tmp_path / "file")
    assert run.save(tmp_path / "new" / "copy").joinpath("launches.jsonl").exists()


def test_a_function_of_a_script_is_trained(tmp_path: Path, small_data: Path) -> None:
    """As of a notebook: it lies in `__main__`, which a worker cannot import."""
    (tmp_path / "script.py").write_text(
        "import bench\nfrom bench.machine import counters\nfrom support import quiet\n"
        "counters.watch = quiet.watch\n"
        "units = 10\n"
        "def tiny():\n    import keras\n"
        "    layer = keras.layers.Dense(units, 'softmax')\n"
        "    return keras.Sequential([keras.Input((784,)), layer])\n"
        f"run = bench.run(tiny, optimizers='sgd', loops='fit', devices='cpu', batch_sizes=[50],"
        f" precisions='float32', epochs=1, launches=1, data={str(small_data)!r}, output='run')\n"
        "print(run.rows.loc[0, ['case', 'status', 'reason']].tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    case = "__main__:tiny-sgd-fit-cpu-b50-float32"
    assert done.stdout.strip().splitlines()[-1] == f"['{case}', 'ok', <NA>]"
    environment = json.loads((tmp_path / "run" / "environment.json").read_text("utf-8"))
    (listing,) = environment["code"].values()
    assert len(listing["elsewhere"]["__main__:tiny"]) == 64
    assert "FMNIST_FUNCTIONS" not in environment["variables"]
