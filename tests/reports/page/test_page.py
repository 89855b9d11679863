"""report.html without a browser: what it says, what it holds, what it escapes, what it refuses."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support import ROOT, Program, TypeIn
from support.pages import (
    BIG,
    COMPILED,
    FIT,
    HALF,
    HOSTILE,
    REFERENCE,
    SET_UPS,
    SOFTMAX,
    USUAL,
    write_profile,
)
from support.run_folders import write_run

from bench.reports.end_of_run import summarize
from bench.reports.formatting import short_ids, short_names
from bench.reports.page.columns import COLUMNS
from bench.reports.page.findings import Finding, comparison_findings, findings
from bench.reports.page.page import write_report
from bench.reports.page.records import MOST_ROUNDS, case_records, pareto, round_records
from bench.reports.page.source import Source, read_sources
from bench.reports.page.table import case_table
from bench.schema.case import Case, logistic_case
from bench.schema.columns import RESULT_COLUMNS
from bench.schema.earlier import in_present_names
from bench.schema.launch import Status
from bench.session.outcome import RunOutcome
from bench.store.run_folder import RunFolder
from bench.verdicts.compare import compare
from fmnist_models.errors import UserError

# Columns that are made of two.
HALVES = {"interval", "efficiency_interval"}


class Page(HTMLParser):
    """The elements of a page, and its text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str | None] = []
        self.text = ""
        self._raw = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        self._raw = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._raw = False

    def handle_data(self, data: str) -> None:
        if not self._raw:
            self.text += data


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Source]:
    """Reads one made-up run back."""

    def make(cases: dict[Case, tuple[float, float]], **rest: Any) -> Source:
        return read_sources([write_run(tmp_path / "run", cases, **rest)])[0]

    return make


def titles(source: Source) -> list[str]:
    return [finding.title for finding in findings(source)]


def text_of(source: Source, start: str) -> Finding:
    return next(finding for finding in findings(source) if finding.title.startswith(start))


def test_the_findings_of_two_loops(source: Callable[..., Source]) -> None:
    run = source(USUAL)
    assert not [title for title in titles(run) if "backend" in title]
    assert "The fastest loop is compiled" in titles(run)
    gain = text_of(run, "compiled trains 9.9 times as many samples a second as fit")
    assert gain.kind == "gain"
    assert "geometric mean of 1 case." in gain.text
    assert "The framework's share of a fit step, by batch size: 90% at 32." in gain.text
    assert "compiled ends 1.0 points above fit in accuracy" in titles(run)
    best = text_of(run, "Most accurate: relu_mlp adam compiled batch 32 float32, in 0.81 s")
    assert "1 case is on the Pareto front" in best.text
    assert "First at the target of 0.85: relu_mlp adam compiled" in best.text


def test_where_xla_is_slower_no_share_of_the_framework_is_told(
    source: Callable[..., Source],
) -> None:
    slow = {
        Case("softmax", "adam", "fit"): (1.0, 0.8),
        Case("softmax", "adam", "compiled"): (3, 0.8),
    }
    text = next(f.text for f in findings(source(USUAL | slow)) if "samples a second" in f.title)
    assert "by batch size: 90% at 32. In 1 of 2 cases compiled is slower: its program" in text
    (column,) = (column for column in COLUMNS if column.name == "framework_overhead")
    assert column.meaning.endswith("below 0: its program is slower")


def test_the_findings_of_several_backends_say_what_each_compiles(
    source: Callable[..., Source],
) -> None:
    speeds = {
        ("fit", "tensorflow"): 4.0,
        ("fit", "jax"): 2.0,
        ("fit", "torch"): 8.0,
        ("compiled", "tensorflow"): 0.4,
        ("compiled", "jax"): 0.8,
        ("compiled", "torch"): 0.8,
    }
    run = source(
        {
            Case("relu_mlp", "adam", loop, backend=backend): (seconds, 0.85)
            for (loop, backend), seconds in speeds.items()
        }
    )
    found = text_of(run, "No backend is the fastest")
    assert found.title.endswith(": TensorFlow and JAX lead in as many cases each")
    assert found.text.startswith("In 1 of 2 cases that ran on every backend, loop by loop. In fit,")
    assert "In fit, over TensorFlow: JAX 2.0 times, PyTorch 0.50 times." in found.text
    assert (
        "There Keras compiles the step with JAX, and not with TensorFlow and PyTorch." in found.text
    )
    assert "In compiled, over TensorFlow: JAX 0.50 times, PyTorch 0.50 times." in found.text
    assert "TensorFlow 90%, JAX 60%, PyTorch 90%." in found.text
    gain = text_of(run, "compiled trains")
    assert "geometric mean of 3 cases (2.48 to 9.90)" in gain.text
    assert "By backend: 9.9 times with TensorFlow, 2.5 times with JAX, 9.9 times" in gain.text


def test_the_fastest_backend_is_that_of_the_cases_that_all_have(
    source: Callable[..., Source],
) -> None:
    seconds = {
        ("fit", "tensorflow"): 4.0,
        ("fit", "jax"): 4.0,
        ("fit", "torch"): 2.0,
        ("multistep", "tensorflow"): 1.0,
        ("multistep", "jax"): 2.0,
        ("compiled", "tensorflow"): 0.4,
        ("compiled", "jax"): 0.8,
    }
    run = source(
        {
            Case("relu_mlp", "adam", loop, backend=backend): (taken, 0.85)
            for (loop, backend), taken in seconds.items()
        }
    )
    found = text_of(run, "The fastest backend is ")
    assert found.title == "The fastest backend is PyTorch"
    assert found.text.startswith("In 1 of 1 case that ran on every backend, loop by loop.")
    assert "In multistep, over TensorFlow: JAX 0.50 times." in found.text


def test_where_no_case_ran_on_every_backend_those_on_several_count(
    source: Callable[..., Source],
) -> None:
    seconds = {("fit", "torch"): 2.0, ("multistep", "jax"): 2.0}
    cases = {
        Case("relu_mlp", "adam", loop, backend=backend): (taken, 0.85)
        for (loop, other), slow in seconds.items()
        for backend, taken in (("tensorflow", 1.0), (other, slow))
    }
    found = text_of(source(cases), "The fastest backend is ")
    assert found.title == "The fastest backend is TensorFlow"
    assert found.text.startswith("In 2 of 2 cases that ran on more than one, loop by loop.")


def test_a_backend_that_compiles_some_cases_is_not_said_to_compile_all(
    source: Callable[..., Source],
) -> None:
    run = source(
        {
            Case(model, "adam", "fit", backend=backend): (1.0, 0.85)
            for model in ("softmax", "relu_mlp")
            for backend in ("tensorflow", "jax", "torch")
        }
    )
    name = "softmax-adam-fit-cpu-b32-float32"
    rows = {**run.run.rows, name: {**run.run.rows[name], "jit_compile": True}}
    run = replace(run, run=replace(run.run, rows=rows))
    told = "There Keras compiles the step with JAX, and in some cases with TensorFlow, and not "
    assert f"{told}with PyTorch." in text_of(run, "The fastest backend is ").text


def test_means_over_different_numbers_of_cases_tell_them(source: Callable[..., Source]) -> None:
    seconds = {"fit": 4.0, "compiled": 1.0}
    pairs = (("softmax", "tensorflow"), ("relu_mlp", "tensorflow"), ("relu_mlp", "torch"))
    cases = {
        Case(model, "adam", loop, backend=backend): (taken, 0.85)
        for model, backend in pairs
        for loop, taken in seconds.items()
    }
    text = text_of(source(cases), "compiled trains").text
    assert "4.0 times with TensorFlow in 2 cases, 4.0 times with PyTorch in 1 case." in text


def test_the_best_batch_size_of_another_backend_names_it(source: Callable[..., Source]) -> None:
    sizes = [Case("relu_mlp", "adam", "compiled", "cpu", n, backend="jax") for n in (32, 512)]
    run = source(dict.fromkeys(sizes, (0.4, 0.87)))
    assert "relu_mlp adam compiled jax is fastest at batch size 32" in titles(run)


def test_the_table_and_the_charts_tell_backends_apart(source: Callable[..., Source]) -> None:
    cases = {
        Case("relu_mlp", "adam", "compiled", threads=threads, backend=backend): (1.0, 0.85)
        for threads in (1, 2)
        for backend in ("tensorflow", "jax")
    }
    run = source(cases)
    table = case_table([run])
    (place,) = (n for n, column in enumerate(table.columns) if column.name == "backend")
    assert table.columns[place].at_first
    assert [row.cells[place].text for row in table.rows] == ["tensorflow", "jax"] * 2
    assert table.choices["backend"] == ("tensorflow", "jax")
    records = case_records([run])
    lines = {(r["threads_series"], r["pair"]) for r in records}
    assert len(lines) == 2
    assert {pair for _, pair in lines} == {"relu_mlp · adam", "relu_mlp · adam · jax"}


def test_of_one_backend_beside_scikit_learn_nothing_is_told(source: Callable[..., Source]) -> None:
    table = case_table([source({FIT: (1.0, 0.85), logistic_case(): (2.0, 0.8)})])
    (column,) = (column for column in table.columns if column.name == "backend")
    assert not column.at_first
    assert "backend" not in table.choices
    assert table.choices["loop"] == ("fit", "sklearn")


def test_a_target_that_nobody_reached_is_said(source: Callable[..., Source]) -> None:
    best = text_of(source({FIT: (4.0, 0.5)}), "Most accurate")
    assert "No network reached the target of 0.85 in every launch." in best.text


@pytest.mark.parametrize(
    ("seconds", "verdict", "kind"),
    [
        (0.8, "hurts in 1 of 1 case, and helps in none", "loss"),
        (0.2, "helps in 1 of 1 case", "gain"),
        (0.41, "is as fast as float32, within 5%, in all of 1 case", "fact"),
    ],
)
def test_where_precision_helps_or_hurts(
    source: Callable[..., Source], seconds: float, verdict: str, kind: str
) -> None:
    finding = text_of(source({COMPILED: (0.4, 0.87), HALF: (seconds, 0.868)}), "mixed_bfloat16")
    assert finding.title == f"mixed_bfloat16 {verdict}"
    assert finding.kind == kind
    assert f"compiled {0.4 / seconds:.2f}" in finding.text
    apart = 0 if kind == "fact" else 1
    assert f"The intervals lie apart in {apart} of 1 case" in finding.text
    assert "changes by -0.20 points on average" in finding.text


def test_overhead_and_the_nearest_to_the_roof(source: Callable[..., Source]) -> None:
    run = source({FIT: (4.0, 0.86), COMPILED: (0.1, 0.87)})
    finding = text_of(run, "1 of 2 cases wait for overhead")
    assert finding.text.startswith(
        "They reach less than 0.3 of their roofline (1 in fit). 1 wait for arithmetic. Nearest to "
        "the roof: relu_mlp adam compiled batch 32 float32, at 0.7"
    )


def test_batch_sizes(source: Callable[..., Source]) -> None:
    finding = text_of(
        source({COMPILED: (0.4, 0.87), BIG: (0.2, 0.86)}), "relu_mlp adam compiled is"
    )
    assert finding.title.endswith("is fastest at batch size 512")
    assert "2.0 times as many samples a second as at 32" in finding.text
    assert "0.860 against 0.870" in finding.text


def test_what_did_not_end_well_is_counted(source: Callable[..., Source]) -> None:
    run = source(USUAL, reasons={SOFTMAX: (Status.FAILED, "out of memory")})
    assert "1 case without a figure: 1 failed" in titles(run)


def test_a_run_without_any_figure_still_makes_a_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {}, reasons={SOFTMAX: (Status.SKIPPED, "no GPU here")})
    page = Page(write_report([run]).read_text("utf-8"))
    assert "No case was measured" in page.text
    assert "no GPU here" in page.text
    assert not any(tag == "figure" for tag, _ in page.tags)


def test_the_front_holds_what_no_other_beats(source: Callable[..., Source]) -> None:
    run = source({FIT: (4.0, 0.86), COMPILED: (0.4, 0.87), BIG: (0.2, 0.80), SOFTMAX: (8.0, 0.9)})
    front = pareto(run.points.values())
    assert [round(point.val_score, 6) for point in front] == [0.8, 0.87, 0.9]


def test_the_reference_says_what_the_manual_says() -> None:
    (run,) = read_sources([REFERENCE])
    gain = text_of(run, "compiled trains")
    page = (ROOT / "docs/explanation/reference-run.md").read_text("utf-8")
    mean = re.search(r"trains (\d+)\.\d times", gain.title)
    assert mean is not None
    assert f"`compiled` trains {mean[1]} times as many samples" in page
    found = re.search(r"\((\d+\.\d)\d to (\d+\.\d)\d\)", gain.text)
    assert found is not None
    assert f"{found[1]} to {found[2]}" in page


def test_a_name_that_sounds_like_a_warning_is_not_counted_as_one(
    source: Callable[..., Source],
) -> None:
    run = source(USUAL)
    told = {
        FIT: "unsteady_block computes in float32: 60% of the multiply-adds are in bfloat16",
        COMPILED: "unsteady; disturbed: throttled for heat, times a core: 4 in launch 1",
    }
    rows = {case.id: {**run.run.rows[case.id], "warnings": told[case]} for case in told}
    run = replace(run, run=replace(run.run, rows=rows))
    assert "Of 2 cases, 1 unsteady and 1 disturbed" in titles(run)
    rows[COMPILED.id]["warnings"] = "no roofline: a loop; a round is 100 steps"
    run = replace(run, run=replace(run.run, rows=rows))
    assert not any(title.startswith("Of ") for title in titles(run))


def test_runs_beside_each_other() -> None:
    sources = read_sources([SET_UPS])
    found = compare({source.name: source.run for source in sources})
    said = comparison_findings(found)
    assert len(said) == len(sources) - 1
    for finding, (name, total) in zip(said, found.summaries.items(), strict=True):
        assert finding.title.startswith(f"{name}: {total.geometric_mean:.2f} times")
    records = case_records(sources)
    # Threads make a line within one set of variables, and only there.
    assert len({record["threads_series"] for record in records}) == 16
    assert all(record["threads_series"] is not None for record in records)


def test_many_rounds_are_thinned_and_the_curves_kept(
    source: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = source(USUAL, epochs=4)
    monkeypatch.setattr("bench.reports.page.records.MOST_ROUNDS", 3)
    rounds, one_in = round_records([run])
    assert one_in == 6
    # The curves of the first launches, and of the others one in six.
    assert len(rounds) == 4 + 4 + 1
    assert MOST_ROUNDS == 10_000


def test_the_table_holds_the_cells_of_results_csv() -> None:
    sources = read_sources([REFERENCE])
    table = case_table(sources)
    with (REFERENCE / "results.csv").open(newline="", encoding="utf-8") as lines:
        cells = [in_present_names(row) for row in csv.DictReader(lines)]
    assert [row.case for row in table.rows] == [row["case"] for row in cells]
    for row, wanted in zip(table.rows, cells, strict=True):
        for column, cell in zip(table.columns, row.cells, strict=True):
            if column.name not in HALVES:
                assert (cell.value or cell.text) == wanted[column.name]


def test_every_column_is_one_of_results_csv() -> None:
    assert {column.name for column in COLUMNS} - HALVES <= set(RESULT_COLUMNS)
    assert all(column.meaning for column in COLUMNS)


def test_a_page_needs_no_network_and_stays_small(tmp_path: Path) -> None:
    path = write_report([REFERENCE], tmp_path / "page.html")
    text = path.read_text("utf-8")
    assert len(text.encode()) < 5_000_000
    page = Page(text)
    for _, attributes in page.tags:
        for name in ("src", "href", "action", "data", "srcset"):
            assert not re.match(r"(https?:)?//", attributes.get(name) or "")
    assert not re.search(r"\bcdn\b|jsdelivr|unpkg", text, re.I)
    assert "@import" not in text
    policy = next(a["content"] for _, a in page.tags if "http-equiv" in a)
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "script-src 'sha256-" in policy
    assert len(page.ids) == len(set(page.ids))


def test_a_page_of_two_thousand_cases_stays_under_five_megabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = {
        Case(model, optimizer, loop, "gpu:1", size, precision): (0.5, 0.85)
        for model in ("softmax", "sigmoid_mlp", "relu_mlp")
        for optimizer in ("rmsprop", "sgd_lr0.1", "sgd_nesterov", "adagrad")
        for loop in ("fit", "compiled", "multistep")
        for size in (128, 512, 2048)
        for precision in ("float32", "mixed_bfloat16")
    }
    monkeypatch.setattr("bench.reports.page.records.MOST_ROUNDS", MOST_ROUNDS * len(cases) // 2000)
    monkeypatch.setattr("bench.reports.page.table.MOST_WIDE_ROWS", 0)
    small = write_report([write_run(tmp_path / "one", USUAL)]).stat().st_size
    path = write_report([write_run(tmp_path / "run", cases, epochs=5)])
    assert small + 2000 * (path.stat().st_size - small) / len(cases) < 5_000_000


def test_the_page_has_its_parts() -> None:
    text = (REFERENCE / "report.html").read_text("utf-8")
    page = Page(text)
    for part in ("findings", "cases", "charts", "warnings", "environment", "method", "repeat"):
        assert part in page.ids
        assert ("a", {"href": f"#{part}"}) in page.tags
    figures = {attributes["id"] for tag, attributes in page.tags if tag == "figure"}
    assert figures >= {
        f"figure-{name}"
        for name in (
            "throughput",
            "accuracy",
            "batch",
            "precision",
            "roofline-0",
            "curves-0",
            "drift",
            "one-case",
        )
    }
    assert "fmnist-bench run" in page.text
    assert "--output" not in page.text
    assert "AMD EPYC" in page.text
    assert next(a for tag, a in page.tags if tag == "html")["lang"] == "en"
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1


def test_the_committed_page_is_of_the_committed_run() -> None:
    text = (REFERENCE / "report.html").read_text("utf-8")
    with (REFERENCE / "results.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert text.count("<tr id=") == len(rows)
    for row in rows:
        assert f'data-case="{row["case"]}"' in text
        assert f'data-v="{row["samples_per_s"]}"' in text or not row["samples_per_s"]


def test_text_of_others_is_escaped_everywhere(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run",
        USUAL,
        label=HOSTILE,
        reasons={SOFTMAX: (Status.FAILED, HOSTILE)},
        command=f"fmnist-bench run --label '{HOSTILE.replace(chr(39), '')}'",
        variables={"TF_X": HOSTILE},
        cpu={"model": HOSTILE},
        git={"revision": HOSTILE, "dirty": True},
    )
    profile = write_profile(tmp_path / "profile", HOSTILE)
    text = write_report([run, profile]).read_text("utf-8")
    page = Page(text)
    assert sum(tag == "script" for tag, _ in page.tags) == 3
    assert not any(tag in ("img", "b") for tag, _ in page.tags)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "{{7*7}}" in page.text
    assert "한글" in page.text
    assert "<script>alert" not in text
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert data is not None
    assert "<" not in data[1]
    content = json.loads(data[1])
    assert content["records"][0][content["record_fields"].index("run")] == HOSTILE


def test_a_profile_is_drawn_beside_its_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", USUAL)
    profile = write_profile(tmp_path / "profile", "input")
    page = Page(write_report([run, profile]).read_text("utf-8"))
    assert "figure-profile" in page.ids
    assert "profiles" in page.ids
    assert "Training benchmark: run" in page.text
    assert "figure-profile" not in Page(write_report([run]).read_text("utf-8")).ids
    (run / "profile.csv").write_bytes((profile / "profile.csv").read_bytes())
    assert "figure-profile" in Page(write_report([run]).read_text("utf-8")).ids
    with pytest.raises(UserError, match="holds a profile: name the folder of a run beside it"):
        write_report([profile])
    (profile / "profile.csv").write_text("what\n1\n", "utf-8")
    with pytest.raises(UserError, match=r"profile\.csv has no column 'case'"):
        write_report([run, profile])


def test_the_command_repeats_without_the_folder(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run",
        USUAL,
        label="one",
        command="fmnist-bench run --output results/x --data /home/somebody/images --label 'a b'",
        variables={"TF_ENABLE_ONEDNN_OPTS": "0"},
        git={"revision": "0123abcd", "dirty": True},
    )
    page = Page(write_report([run]).read_text("utf-8"))
    assert "TF_ENABLE_ONEDNN_OPTS=0 fmnist-bench run --data images --label 'a b'" in page.text
    assert "git checkout 0123abcd  # it had changes" in page.text
    assert "somebody" not in page.text
    (run / "plan.json").unlink()
    assert "no plan.json" in Page(write_report([run]).read_text("utf-8")).text


def test_runs_of_other_images_are_shown_and_not_compared(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", USUAL)
    two = write_run(tmp_path / "two", {FIT: (3.0, 0.86)}, dataset_digest="def")
    page = Page(write_report([one, two], tmp_path / "page.html").read_text("utf-8"))
    assert "Not compared:" in page.text
    assert "figure-ratios" not in page.ids
    assert "one" in page.text


def test_short_names_tell_every_case_apart() -> None:
    rows = {case.id: {**case.to_json()} for case in (FIT, COMPILED, BIG)}
    assert list(short_names(rows).values()) == [
        "fit · batch 32",
        "compiled · batch 32",
        "compiled · batch 512",
    ]
    assert short_names({FIT.id: FIT.to_json()}) == {FIT.id: "relu_mlp"}


def test_report_by_hand(type_in: TypeIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", USUAL)
    code, out, _ = type_in("report", run)
    assert (code, out.strip()) == (0, str(run / "report.html"))
    other = write_run(tmp_path / "other", {FIT: (3.0, 0.86)})
    monkeypatch.chdir(tmp_path)
    assert type_in("report", run, other)[:2] == (0, "report.html\n")
    assert (tmp_path / "report.html").exists()
    code, out, _ = type_in("report", run, "--output", other)
    assert out.strip() == str(other / "report.html")


def test_a_mistake_is_one_line(type_in: TypeIn, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", USUAL)
    empty = write_run(tmp_path / "empty", {})
    file = tmp_path / "file"
    file.write_text("")
    cut = write_run(tmp_path / "cut", {SOFTMAX: (3.0, 0.8)})
    (cut / "results.csv").write_text("a,b\n1,2\n")
    mistakes: list[tuple[list[object], str]] = [
        ([tmp_path / "nowhere"], "nowhere: there is no such folder: name the folder of a run"),
        ([file], "holds no results.csv: name the folder of a run"),
        ([empty], "results.csv holds no case, so there is nothing to report"),
        ([cut], "it is not a file of this suite"),
        ([run, run], "is the same folder as"),
        ([run, "--output", file / "page.html"], "name another --output"),
    ]
    for words, line in mistakes:
        code, _, err = type_in("report", *words)
        assert code == 2
        assert err.startswith("fmnist-bench: error: ")
        assert err.count("\n") == 1
        assert line in err


@pytest.mark.parametrize("report", [True, False])
def test_a_run_ends_with_its_page_unless_told_not_to(tmp_path: Path, report: bool) -> None:
    folder, plan = RunFolder.resume(write_run(tmp_path / "run", USUAL))
    rows, launches, rounds = folder.results(), folder.launches(), folder.rounds()
    outcome = RunOutcome(folder, plan, rows, launches, rounds, False, {})
    out = io.StringIO()
    summarize(outcome, Console(file=out, width=80), report=report)
    assert (folder.path / "report.html").exists() == report
    assert ("report.html" in out.getvalue()) == report


def test_what_was_overruled_is_said_once_at_the_end_of_a_run_and_on_its_page(
    tmp_path: Path,
) -> None:
    overruled = {"KERAS_BACKEND": "jax", "MPLBACKEND": "inline"}
    acted = {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--x"}
    path = write_run(tmp_path / "run", USUAL, variables=acted, overruled=overruled)
    folder, plan = RunFolder.resume(path)
    rows, launches, rounds = folder.results(), folder.launches(), folder.rounds()
    out = io.StringIO()
    summarize(
        RunOutcome(folder, plan, rows, launches, rounds, False, {}),
        Console(file=out, width=80),
    )
    assert out.getvalue().count("overruled, so that each case is what its row says: ") == 1
    assert "KERAS_BACKEND=jax" in out.getvalue()
    assert "MPLBACKEND" not in out.getvalue()
    page = (path / "report.html").read_text("utf-8")
    assert "KERAS_BACKEND=jax, MPLBACKEND=inline" in page
    # What repeats the run: of the variables, what the user had set and what acted.
    assert "XLA_FLAGS=--x fmnist-bench run" in page


def test_the_chart_library_loads_only_when_used(program: Program, tmp_path: Path) -> None:
    script = (
        "import sys, bench.cli, bench.cli.options, bench.reports.end_of_run, "
        "bench.reports.page.page;"
        "slow = {'altair', 'vl_convert', 'jinja2', 'matplotlib', 'pandas', 'tensorflow'};"
        "print(sorted(slow & set(sys.modules)))"
    )
    (tmp_path / "look.py").write_text(script)
    done = program("look")
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("ids", "short"),
    [
        (
            ["m-adam-fit-cpu-b32", "m-adam-fit-cpu-b512", "m-adam-compiled-cpu-b32"],
            ["fit · b32", "fit · b512", "compiled · b32"],
        ),
        (["m-adam-fit-cpu-b32"], ["m-adam-fit-cpu-b32"]),
        (["m-fit", "m-fit-t2"], ["m-fit", "m-fit-t2"]),
        ([], []),
    ],
)
def test_ids_are_cut_to_what_tells_them_apart(ids: list[str], short: list[str]) -> None:
    assert list(short_ids(ids).values()) == short
