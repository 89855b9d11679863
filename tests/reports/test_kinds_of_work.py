"""The page and the picture of a run of different work: nothing is ranked across its kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import synthetic
from support.figures import figure_of, panel, texts
from support.run_folders import write_run

from bench.reports.page.charts import case_figures
from bench.reports.page.figure import SHAPES, shapes_of
from bench.reports.page.findings import findings
from bench.reports.page.records import case_records
from bench.reports.page.roundcharts import round_figures
from bench.reports.page.source import Source, read_sources
from bench.reports.page.works import works
from bench.reports.palette import MODEL_MARKERS, OWN_MARKERS
from bench.reports.plots import run
from bench.schema.case import Case, logistic_case
from bench.schema.launch import Better

NET, WIDE = (Case("own.py:net", "sgd", loop) for loop in ("compiled", "fit"))
OTHER, SLOWER = (Case("own.py:other", "sgd", loop) for loop in ("compiled", "fit"))
SOFTMAX, RELU = (Case(model, "adam", "fit") for model in ("softmax", "relu_mlp"))
MAE = {"score": "mae", "better": Better.MIN, "score_target": 3.0}
CASES = {NET: (0.5, 2.75), WIDE: (5.0, 2.5), OTHER: (0.25, 0.5), SLOWER: (4.0, 0.25)}


def run_of(path: Path, cases: Mapping[Case, tuple[float, float]], **record: Any) -> Source:
    return read_sources([write_run(path, cases, record=record)])[0]


def told(source: Source, values: Mapping[Case, Mapping[str, Any]]) -> Source:
    """The run with other values in the rows of some cases, and without the other cases."""
    rows = {case.id: {**source.run.rows[case.id], **own} for case, own in values.items()}
    return replace(source, run=replace(source.run, rows=rows))


def two_works(path: Path, **other: Any) -> Source:
    """A run of two models with data of their own; `other` holds values of the second's rows."""
    first, second = {"data_digest": "d1"}, {"data_digest": "d2", **other}
    source = run_of(path, CASES, **MAE)
    return told(source, {NET: first, WIDE: first, OTHER: second, SLOWER: second})


def said(source: Source) -> dict[str, str]:
    return {finding.title: finding.text for finding in findings(source)}


def test_cases_of_the_same_data_and_score_are_one_work(tmp_path: Path) -> None:
    images = dict.fromkeys((SOFTMAX, RELU, logistic_case(), NET, WIDE, OTHER), (1.0, 0.8))
    source = run_of(tmp_path / "run", images)
    stream = {"data_digest": "unknown"}
    values: dict[Case, dict[str, Any]] = {
        # The digest of the images in environment.json; the others hold none.
        SOFTMAX: {"data_digest": "abc"},
        RELU: {},
        logistic_case(): {},
        **dict.fromkeys((NET, WIDE, OTHER), stream),
    }
    found = [(work.name, len(work.rows)) for work in works(told(source, values))]
    assert found == [("the embedded images", 3), ("net", 2), ("other", 1)]
    own = {"data_digest": "d"}
    assert [work.name for work in works(told(source, {NET: own, OTHER: own}))] == ["net, other"]
    low = {**own, "better": "min"}
    assert [work.name for work in works(told(source, {NET: own, OTHER: low}))] == ["net", "other"]


def test_a_run_of_several_works_names_the_best_of_each(tmp_path: Path) -> None:
    found = said(two_works(tmp_path / "run", score_target=0.1, time_to_score_s=None))
    assert found["The best case of each of 2 kinds of work"] == (
        "net: mae 2.5 with fit in 10 s of training; first at the target of 3: compiled, after "
        "0.51 s.\nother: mae 0.25 with fit in 8 s of training; no case reached the target of 0.1 "
        "in every launch."
    )
    assert found["The fastest loop is compiled"].endswith(
        "The highest of each kind of work, in samples/s: net 95,053 (compiled), "
        "other 190,105 (compiled)."
    )
    assert not any(title.startswith("Best ") for title in found)


def test_each_target_of_one_work_is_named(tmp_path: Path) -> None:
    source = run_of(tmp_path / "run", CASES, **MAE)
    rows: dict[Case, dict[str, Any]] = {case: {} for case in CASES}
    rows[NET] = {"score_target": 2.8, "time_to_score_s": 0.7}
    rows[WIDE] = {"score_target": 2.8, "time_to_score_s": 7.0}
    (text,) = (text for title, text in said(told(source, rows)).items() if "Best mae" in title)
    assert "First at the target of 2.8: own.py:net sgd compiled batch 32 float32" in text
    assert "First at the target of 3: own.py:other sgd compiled batch 32 float32" in text


def test_the_front_of_a_chart_is_of_one_work(tmp_path: Path) -> None:
    source = two_works(tmp_path / "run")
    records = case_records([source])
    assert [record["work"] for record in records] == [0, 0, 1, 1]
    (figure,) = (f for f in case_figures([source], records) if "against" in f.title)
    drawn = repr(figure.spec)
    assert "'groupby': ['run', 'work']" in drawn
    assert "'detail': [{'field': 'run', 'type': 'nominal'}, {'field': 'work'" in drawn
    assert "the Pareto front of each run and kind of work; no other shown case of" in figure.caption
    one = run_of(tmp_path / "one", CASES, **MAE)
    (figure,) = (f for f in case_figures([one], case_records([one])) if "against" in f.title)
    assert "the Pareto front of each run; no other shown case has" in figure.caption


def test_a_score_that_is_good_both_ways_has_two_charts(tmp_path: Path) -> None:
    source = two_works(tmp_path / "run")
    records = case_records([source])
    for record in records[2:]:
        record["better"] = "max"
    charts = [f for f in case_figures([source], records) if "against" in f.title]
    assert [figure.name for figure in charts] == ["score-0", "score-1"]
    assert 'datum.better == "max"' in repr(charts[1].spec)


def test_a_chart_and_a_panel_draw_each_target(tmp_path: Path) -> None:
    source = two_works(tmp_path / "run")
    records = case_records([source])
    records[0]["target"] = 0.5
    (figure,) = (f for f in case_figures([source], records) if "against" in f.title)
    assert figure.caption.endswith("Dashed: the mae targets.")
    assert "'groupby': ['target']" in repr(figure.spec)
    assert "mean" not in repr(figure.spec)
    results, rounds = synthetic.run(CASES)
    mae = {"score": "mae", "better": "min", "val_score": 12.0, "step_ms": 1.0}
    for row, target in zip(results, (11.0, 11.01, 11.0, None), strict=True):
        row |= {**mae, "score_target": target}
    picture = figure_of(run.comparison, results, rounds, {})
    lines = [line for line in panel(picture, "mae: cpu").lines if line.get_gid() == "target"]
    assert [line.get_ydata()[0] for line in lines] == [11.0, 11.01]
    low, high = (
        text.get_window_extent() for text in texts(picture) if text.get_text().startswith("target")
    )
    assert not low.overlaps(high)


def test_without_a_value_there_is_no_chart_of_a_score(tmp_path: Path) -> None:
    source = run_of(tmp_path / "run", CASES, **MAE)
    source = told(source, {case: {"val_score": None} for case in CASES})
    points = {case: replace(p, val_score=float("nan")) for case, p in source.points.items()}
    records = case_records([replace(source, points=points)])
    figures = [*case_figures([source], records), *round_figures(records, 1)]
    assert "mae" not in " ".join(figure.title + figure.caption for figure in figures)
    assert not any("curves" in figure.name for figure in figures)


@pytest.mark.parametrize("marker", [*MODEL_MARKERS.values(), *OWN_MARKERS])
def test_each_marker_of_the_pictures_has_a_shape_of_its_own(marker: str) -> None:
    assert [SHAPES[marker] == shape for shape in SHAPES.values()].count(True) == 1
    own = [f"own.py:net{number}" for number in range(len(OWN_MARKERS))]
    assert len(set(shapes_of(own).values())) == len(own)


def test_the_charts_of_a_run_show_a_model_in_one_shape(tmp_path: Path) -> None:
    source = two_works(tmp_path / "run", score="mse")
    points = {
        case: replace(point, score="mse") if "other" in case else point
        for case, point in source.points.items()
    }
    source = replace(source, points=points)
    charts = [f for f in case_figures([source], case_records([source])) if "against" in f.title]
    signs = [next(key.sign for key in chart.legend if key.sign) for chart in charts]
    assert signs == ["\N{BLACK DOWN-POINTING TRIANGLE}", "\N{HEAVY GREEK CROSS}"]
