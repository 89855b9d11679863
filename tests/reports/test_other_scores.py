"""The terminal, the picture and the page of rows whose score is not the accuracy."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support import synthetic
from support.figures import figure_of, panel, texts
from support.run_folders import write_run

from bench.reports.page.charts import case_figures
from bench.reports.page.findings import findings
from bench.reports.page.page import write_report
from bench.reports.page.records import case_records, pareto
from bench.reports.page.roundcharts import round_figures
from bench.reports.page.source import Source, read_sources
from bench.reports.page.table import case_table
from bench.reports.plots import run
from bench.reports.scores import judged, names_of
from bench.reports.terminal.progress import progress_for
from bench.reports.terminal.run import print_results
from bench.schema.case import Case
from bench.schema.launch import Better, LaunchRecord, Round, Status
from bench.schema.plan import Plan, RunSettings
from bench.schema.score import Scale

NET, WIDE = Case("own:net", "sgd", "compiled"), Case("own:net", "sgd", "fit")
DOCUMENTED = Case("relu_mlp", "adam", "compiled")
MAE = {"score": "mae", "better": Better.MIN, "score_target": 3.0}


def made(cases: list[Case], **more: Any) -> tuple[synthetic.Rows, synthetic.Rows]:
    results, rounds = synthetic.run(cases)
    for row in results:
        row |= {"step_ms": 1.0} | (more if row["model"] == "own:net" else {})
    return results, rounds


def printed(rows: synthetic.Rows) -> str:
    out = io.StringIO()
    print_results(rows, Console(file=out, width=80))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def source_of(path: Path, **record: Any) -> Source:
    """A run of `fit` with an mae of 2.5 and of `compiled`, five times as fast, with 2.75."""
    cases = {WIDE: (2.5, 2.5), NET: (0.5, 2.75)}
    return read_sources([write_run(path, cases, record=MAE | record)])[0]


def test_the_table_has_the_name_of_the_one_score() -> None:
    results, _ = made([NET, WIDE], score="mae", better="min", val_score=12.3456)
    said = printed(results)
    assert " val mae " in said
    assert " 12.35 " in said
    assert "acc" not in said


def test_a_table_of_several_scores_names_them_beside_their_values() -> None:
    results, _ = made([NET, DOCUMENTED], score="mae", better="min", val_score=12.3456)
    said = printed(results)
    assert " val score " in said
    assert " mae 12.35" in said
    assert " accuracy 0.8" in said
    assert max(map(len, said.splitlines())) <= 80


def test_a_table_without_a_score_has_no_column_of_it() -> None:
    results, _ = made([NET, WIDE], score="", better="", val_score=None, steps=100)
    assert "val" not in printed(results)


@pytest.mark.parametrize("name", ["iou[car]", "[/x]", ":smile:"])
def test_a_name_with_brackets_is_no_markup(name: str) -> None:
    results, _ = made([NET, WIDE], score=name, better="max", val_score=0.5)
    assert f" val {name} " in printed(results)


def test_a_score_without_a_value_has_no_column() -> None:
    results, _ = made([NET, WIDE], score="mae", better="min", val_score=None)
    assert "val" not in printed(results)
    results[0]["test_score"] = 2.5
    assert names_of(results) == []
    assert names_of(results, ("val_score", "test_score")) == ["mae"]


def test_a_wait_for_the_input_has_a_column_and_a_line() -> None:
    waits = {"waiting_share": 0.43, "input_free_samples_per_s": 234_567.8}
    results, _ = made([NET, DOCUMENTED], score="mae", better="min", val_score=2.5, **waits)
    said = printed(results)
    assert " waits " in said
    assert " 43% " in said
    assert (
        f"{NET.id}: waits 43% of a step for its input; on one batch that stays on the device "
        "234,568 samples/s" in said
    )
    assert "waits" not in printed(made([DOCUMENTED])[0])


@pytest.mark.parametrize(("score", "shown"), [("mae", ", test mae 12.35"), ("accuracy", "")])
def test_the_line_of_a_launch_names_its_score(score: str, shown: str) -> None:
    out = io.StringIO()
    progress = progress_for(Console(file=out, width=200))
    progress.run_begins(Plan((NET,), RunSettings(launches=1)), [(NET, 0)])
    progress.launch_begins(NET, 0)
    progress.round_ends(Round(1, 480, 15, 0.1, 0.0))
    value = 12.3456 if score == "mae" else None
    progress.launch_ends(LaunchRecord(NET.id, 0, 1, 42, Status.OK, test_score=value, score=score))
    assert out.getvalue().strip().endswith(f"samples/s{shown}")


def test_the_picture_has_a_panel_for_each_score() -> None:
    results, rounds = made(
        [NET, WIDE, DOCUMENTED], score="mae", better="min", val_score=12.0, score_target=11.0
    )
    figure = figure_of(run.comparison, results, rounds, {"label": "mine"})
    mae, accuracy = panel(figure, "mae: cpu"), panel(figure, "accuracy: cpu")
    assert mae.get_ylabel() == "validation mae (lower is better)"
    assert mae.get_ylim()[0] < 11.0 < 12.0 < mae.get_ylim()[1] < 13.0
    assert accuracy.get_ylabel() == "validation accuracy"
    assert accuracy.get_ylim()[1] < 1.0
    said = [text.get_text() for text in texts(figure)]
    assert {"mae against training time", "Accuracy against training time", "target\n11"} <= {*said}
    assert "Training: mine" in said


def test_the_picture_of_other_scores_does_not_speak_of_accuracy_or_images() -> None:
    for more in ({"score": "mae", "better": "min", "val_score": 3.0}, {"score": "", "better": ""}):
        empty = {} if more["score"] else {"val_score": None, "score_target": None}
        results, rounds = made([NET, WIDE], **more | empty)
        for one in rounds:
            one["val_score"] = None
        said = " ".join(
            text.get_text() for text in texts(figure_of(run.comparison, results, rounds, {}))
        )
        assert "ccuracy" not in said
        assert "Fashion" not in said


def test_the_front_of_a_score_that_is_better_when_low(tmp_path: Path) -> None:
    source = source_of(tmp_path / "run")
    front = [point.val_score for point in pareto(source.points.values())]
    assert front == [2.75, 2.5]
    (figure,) = [f for f in case_figures([source], case_records([source])) if f.title[:3] == "mae"]
    assert figure.name == "score-0"
    windows = (
        [step for step in figure.spec["transform"] if "window" in step]
        if ("transform" in figure.spec)
        else [
            step
            for layer in figure.spec["layer"]
            for step in layer.get("transform", ())
            if "window" in step
        ]
    )
    assert windows[0]["window"][0]["op"] == "min"
    assert windows[0]["sort"][1] == {"field": "score", "order": "ascending"}


def test_the_findings_speak_of_the_score(tmp_path: Path) -> None:
    waits = {"waiting_share": 0.43, "resident_step_s": 32 / 200_000}
    found = {f.title: f.text for f in findings(source_of(tmp_path / "run", **waits))}
    assert "compiled ends 10.0% above fit in mae" in found
    best = found["Best mae: own:net sgd fit batch 32 float32, in 5 s of training"]
    assert best.startswith("Validation mae 2.5. 2 cases are on the Pareto front: no other case")
    assert "First at the target of 3: own:net sgd compiled" in best
    waiting = next(title for title in found if "waits" in title)
    assert waiting.endswith("waits 43% of a step for its input")
    assert "On one batch that stays on the device it trains 200,000 samples/s" in found[waiting]
    assert "ccuracy" not in " ".join([*found, *found.values()])


def test_one_score_in_two_units_has_one_name() -> None:
    points, percent = Scale("r2", Better.MAX), Scale("r2", Better.MAX, 40.0)
    scores = judged([points, percent])
    assert scores.heading("points") == ["r2"]
    legend = "r2: change of the validation r2, in percent or in points of 0.01"
    assert scores.legend == legend
    assert [scores.cell(scale, 1.0) for scale in scores.scales] == ["+1.00", "+1.00%"]


def test_a_page_of_other_scores_does_not_speak_of_accuracy(tmp_path: Path) -> None:
    source = source_of(tmp_path / "run")
    headings = {column.heading for column in case_table([source]).columns}
    assert "val. mae" in headings
    assert "score" not in headings
    figures = round_figures(case_records([source]), 1)
    assert figures[0].caption.startswith("Validation mae after each documented epoch")
    text = write_report([tmp_path / "run"]).read_text("utf-8")
    shown = text[: text.index("<script")] + text[text.rindex('id="data"') :]
    assert "ccuracy" not in shown


def test_a_page_of_several_scores_has_a_chart_and_a_name_for_each(tmp_path: Path) -> None:
    paths = [
        write_run(tmp_path / "mae", {NET: (0.5, 2.5)}, record=MAE),
        write_run(tmp_path / "accuracy", {DOCUMENTED: (0.4, 0.87)}),
    ]
    sources = read_sources(paths)
    table = case_table(sources)
    assert {"val. score", "score"} <= {column.heading for column in table.columns}
    titles = [figure.title for figure in case_figures(sources, case_records(sources))]
    assert {"mae against time", "Accuracy against time"} <= {*titles}
    page = write_report(paths, tmp_path / "report.html").read_text("utf-8")
    assert "figure-score-0" in page
    assert "figure-accuracy" in page
