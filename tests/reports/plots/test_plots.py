from __future__ import annotations

import itertools
import math
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text
from support import ROOT, synthetic
from support.figures import drawn, figure_of, panel, texts, texts_off_the_page

from bench.backends import BACKENDS
from bench.reports import selection
from bench.reports.formatting import one_line
from bench.reports.machine_text import machine_lines
from bench.reports.palette import LOOP_COLOURS, model_markers
from bench.reports.plots import run
from bench.reports.plots.canvas import texts_of
from bench.reports.plots.panels import spread
from bench.reports.plots.style import fitted, log_limits, log_ticks, style
from bench.schema.case import LOOPS, PRECISIONS, Case, logistic_case
from bench.schema.columns import RESULT_COLUMNS, ROUND_COLUMNS
from fmnist_models.errors import UserError

# Rows of results and of rounds.
Tables = tuple[synthetic.Rows, synthetic.Rows]
KOREAN = "패션 MNIST 모델"


def every_device() -> Tables:
    cases = [c for device in ("cpu", "gpu:0", "gpu:1") for c in synthetic.documented(device=device)]
    return synthetic.run(dict.fromkeys(cases))


def forty_own_models() -> Tables:
    names = (f"company.research.vision_{i}.models:build_network_variant_{i}" for i in range(40))
    return synthetic.run(Case(n, "adam", loop) for n in names for loop in ("fit", "compiled"))


def whole_product() -> Tables:
    from fmnist_models.architectures import NETWORKS
    from fmnist_models.optimizers import OPTIMIZERS

    axes = NETWORKS, OPTIMIZERS, LOOPS[:3], ("cpu",), (32, 512), ("float32", "mixed_bfloat16")
    return synthetic.run(itertools.starmap(Case, itertools.product(*axes)))


def all_failed() -> Tables:
    return [synthetic.not_ok(Case("softmax", "sgd", "fit"), "failed", "out of memory")], []


def nothing_known() -> Tables:
    results, _ = synthetic.run([Case("relu_mlp", "adam", "compiled"), logistic_case()])
    columns = ("samples_per_s_low", "samples_per_s_high", "epochs", "epoch_s", "val_score")
    for row in results:
        row |= dict.fromkeys((*columns, "score_target", "device_name"))
        row["samples_per_s_low"] = math.nan
    results[0] |= {"samples_per_s": math.nan, "score_target": math.nan}
    return results, []


def huge_ranges() -> Tables:
    results, rounds = synthetic.run(synthetic.documented())
    for i, row in enumerate(results):
        factor = 10.0 ** (i % 12 - 4)
        for name in ("samples_per_s", "samples_per_s_low", "samples_per_s_high"):
            row[name] = row[name] and row[name] * factor
        row["epoch_s"] /= factor
    return results, rounds


def precisions() -> Tables:
    cases = [Case("relu_mlp", "adam", "compiled", "gpu", precision=p) for p in PRECISIONS]
    results, rounds = synthetic.run(cases)
    fifth, own = synthetic.run([Case("relu_mlp", "adam", "compiled", "gpu", threads=None)])
    fifth[0] |= {"case": "later", "precision": "mixed_float8"}
    return results + fifth, rounds + [row | {"case": "later"} for row in own]


def three_backends() -> Tables:
    axes = ("sigmoid_mlp", "relu_mlp"), ("fit", "compiled"), (32, 512), BACKENDS
    return synthetic.run(
        Case(model, "adam", loop, batch_size=batch, backend=backend)
        for model, loop, batch, backend in itertools.product(*axes)
    )


RUNS: dict[str, Callable[[], Tables]] = {
    "documented": lambda: synthetic.run(synthetic.documented()),
    "three loops": lambda: synthetic.run(synthetic.documented(LOOPS[:3])),
    "one row": lambda: synthetic.run([Case("relu_mlp", "adam", "compiled")]),
    "logistic": lambda: synthetic.run([logistic_case()]),
    "empty": lambda: ([], []),
    "all failed": all_failed,
    "three devices": every_device,
    "forty own models": forty_own_models,
    "whole product": whole_product,
    "nothing known": nothing_known,
    "huge ranges": huge_ranges,
    "five precisions": precisions,
    "three backends": three_backends,
    "threads": lambda: synthetic.run(
        Case("relu_mlp", "sgd_nesterov", "fit", threads=t, batch_size=b)
        for t in (None, 1, 16)
        for b in (32, 48, 64, 80)
    ),
}


@pytest.fixture(params=RUNS, scope="module")
def figure(request: pytest.FixtureRequest) -> Figure:
    return figure_of(run.comparison, *RUNS[request.param](), synthetic.ENVIRONMENT)


def documented() -> Figure:
    return figure_of(run.comparison, *synthetic.run(synthetic.documented()), synthetic.ENVIRONMENT)


def drawn_texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in texts(figure)]


def test_no_text_leaves_the_page(figure: Figure) -> None:
    assert texts_off_the_page(figure) == []


def test_no_text_covers_another(figure: Figure) -> None:
    boxes = [(text.get_text(), Text.get_window_extent(text)) for text in texts(figure)]
    for (name, box), (other_name, other) in itertools.combinations(boxes, 2):
        across = min(box.x1, other.x1) - max(box.x0, other.x0)
        down = min(box.y1, other.y1) - max(box.y0, other.y0)
        assert across <= 0.5 or down <= 1.5, f"{name!r} covers {other_name!r}"


def test_no_text_covers_a_point(figure: Figure) -> None:
    for axes in figure.axes:
        inside = axes.get_window_extent()
        points = [axes.transData.transform(xy) for xy in drawn(axes)]
        for text in axes.texts:
            box = Text.get_window_extent(text)
            if box.x0 < inside.x1 and box.x1 > inside.x0 and box.y0 < inside.y1:
                assert not any(box.contains(*point) for point in points), text.get_text()


def test_every_point_lies_inside_its_panel(figure: Figure) -> None:
    for axes in figure.axes:
        (left, right), (below, above) = axes.get_xlim(), sorted(axes.get_ylim())
        for gid in (None, "interval"):
            for x, y in drawn(axes, gid):
                assert left < x < right
                assert below < y < above


def test_panels_do_not_cover_one_another(figure: Figure) -> None:
    for one, other in itertools.combinations(figure.axes, 2):
        here, there = one.get_tightbbox(), other.get_tightbbox()
        assert here is not None
        assert there is not None
        assert not here.overlaps(there)


@pytest.mark.parametrize("name", RUNS)
def test_picture_is_a_png_of_sane_size(name: str, tmp_path: Path) -> None:
    path = tmp_path / "comparison.png"
    run.comparison(*RUNS[name](), synthetic.ENVIRONMENT, path)
    height, width, _ = imread(path).shape
    assert width == 1760
    assert 900 <= height <= 6500
    assert list(tmp_path.iterdir()) == [path]


def test_throughput_shows_each_case_interval_and_round() -> None:
    results, rounds = synthetic.run(synthetic.documented())
    axes = panel(figure_of(run.comparison, results, rounds, {}), "throughput")
    base = [r for r in results if (r["batch_size"], r["precision"]) == (32, "float32")]
    base += [r for r in results if r["model"] == "logistic"]
    cases = {r["case"] for r in base}
    speeds = [r["samples"] / r["seconds"] for r in rounds if r["case"] in cases]
    ends = [r[f"samples_per_s_{e}"] for r in base for e in ("low", "high") if r["launches"] > 1]
    assert sorted(x for x, _ in drawn(axes)) == sorted(r["samples_per_s"] for r in base)
    assert sorted(x for x, _ in drawn(axes, "rounds")) == sorted(speeds)
    assert sorted(x for x, _ in drawn(axes, "interval")) == sorted(ends)
    assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "throughput (samples/s)")


def test_accuracy_shows_seconds_of_the_documented_epochs() -> None:
    results, rounds = synthetic.run([Case("relu_mlp", "adam", "compiled"), logistic_case()])
    network, logistic = results
    axes = panel(figure_of(run.comparison, results, rounds, {}), "accuracy: cpu")
    folds = [r["seconds"] for r in rounds if r["case"] == "logistic-sklearn-cpu-b1-float64"][:5]
    assert len(folds) == 5
    expected = [
        (5 * network["epoch_s"], network["val_score"]),
        (pytest.approx(sum(folds) / 5), logistic["val_score"]),
    ]
    assert sorted(drawn(axes)) == sorted(expected, key=lambda xy: xy[1], reverse=True)
    target = next(line for line in axes.lines if line.get_gid() == "target")
    assert set(target.get_ydata()) == {0.85}


def test_batch_sweep_is_a_line_a_loop() -> None:
    results, rounds = synthetic.run(synthetic.documented())
    axes = panel(figure_of(run.comparison, results, rounds, {}), "batches")
    expected = {
        loop: [
            (r["batch_size"], r["samples_per_s"])
            for r in sorted(results, key=lambda r: r["batch_size"])
            if (r["model"], r["optimizer"], r["loop"]) == ("relu_mlp", "adam", loop)
            and r["precision"] == "float32"
        ]
        for loop in ("fit", "compiled")
    }
    lines = {
        line.get_color(): list(zip(*line.get_data(), strict=True))
        for line in axes.lines
        if line.get_marker() == "None"
    }
    assert lines == {LOOP_COLOURS[loop]: xy for loop, xy in expected.items()}
    assert {text.get_text() for text in axes.texts} >= {"fit", "compiled"}
    assert axes.xaxis.get_transform().base == 2


def test_precision_sweep_has_a_row_a_precision() -> None:
    results, rounds = precisions()
    axes = panel(figure_of(run.comparison, results, rounds, {}), "precisions")
    assert [t.get_text() for t in axes.get_yticklabels()] == [*PRECISIONS, "mixed_float8"]
    assert {x for x, _ in drawn(axes)} == {row["samples_per_s"] for row in results}


def test_rows_are_named_by_what_they_ran_on() -> None:
    axes = panel(figure_of(run.comparison, *RUNS["threads"](), {}), "throughput")
    places = "cpu", "cpu, 1 thread", "cpu, 16 threads"
    assert [t.get_text() for t in axes.get_yticklabels()] == [f"sgd_nesterov · {p}" for p in places]


def test_what_differs_names_the_lines_and_rows_of_several_backends() -> None:
    figure = figure_of(run.comparison, *three_backends(), {})
    axes = panel(figure, "throughput")
    places = [f"adam · cpu, {backend}" for backend in BACKENDS]
    assert [t.get_text() for t in axes.get_yticklabels()] == places * 2
    told = {text.get_text() for text in panel(figure, "batches").texts}
    assert {"compiled · sigmoid_mlp · tensorflow", "fit · relu_mlp · jax"} <= told
    assert "adam, cpu, float32" in told
    facets = [str(a.get_label()) for a in figure.axes if "accuracy" in str(a.get_label())]
    assert facets == [f"accuracy: cpu, {backend}" for backend in BACKENDS]


def test_each_device_has_its_accuracy_panel_on_the_same_scales() -> None:
    figure = figure_of(run.comparison, *every_device(), {})
    facets = [axes for axes in figure.axes if str(axes.get_label()).startswith("accuracy")]
    assert [str(axes.get_label())[10:] for axes in facets] == ["cpu", "gpu:0", "gpu:1"]
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in facets}) == 1


def test_only_the_last_attempt_of_a_launch_counts() -> None:
    results, rounds = synthetic.run([Case("softmax", "sgd", "fit")])
    again = [row | {"attempt": 2, "seconds": 2.0} for row in rounds]
    (point,) = selection.points(results, [*rounds, *again])
    assert point.rounds == ((24_000.0,) * 5,)


def test_rounds_are_kept_apart_by_launch() -> None:
    (point,) = selection.points(*synthetic.run([Case("softmax", "sgd", "compiled")]))
    assert [len(launch) for launch in point.rounds] == [20, 20, 20]


def test_base_setting_is_the_most_frequent_where_the_documented_one_was_not_measured() -> None:
    cases = [Case("softmax", "sgd", "fit", batch_size=b, precision="tf32") for b in (64, 128, 256)]
    cases.append(Case("relu_mlp", "sgd", "fit", batch_size=128, precision="tf32"))
    assert selection.base_setting(selection.points(*synthetic.run(cases))) == (128, "tf32")


def test_own_models_sort_after_the_documented_ones_and_by_number() -> None:
    names = ["m:net10", "m:net9", "relu_mlp", "softmax"]
    results, rounds = synthetic.run(Case(name, "sgd", "fit") for name in names)
    found = [point.model for point in selection.points(results, rounds)]
    assert found == ["softmax", "relu_mlp", "m:net9", "m:net10"]


def test_what_is_not_drawn_is_counted_in_the_footer() -> None:
    results, rounds = synthetic.run([Case("softmax", "sgd", "fit")])
    for size, status in ((64, "skipped"), (128, "skipped"), (256, "timed_out")):
        case = Case("softmax", "sgd", "fit", batch_size=size)
        results.append(synthetic.not_ok(case, status, "reason") | {"samples_per_s": 1e9})
    figure = figure_of(run.comparison, results, rounds, {})
    assert "Not drawn: 2 skipped, 1 timed out: see results.csv" in drawn_texts(figure)
    assert len(drawn(panel(figure, "throughput"))) == 1


def test_rows_beyond_the_limit_are_counted_in_the_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "MOST_ROWS", 10)
    figure = figure_of(run.comparison, *forty_own_models(), {})
    assert len(panel(figure, "throughput").get_yticks()) == 10
    assert "batch 32, float32, 30 more rows in results.csv" in drawn_texts(figure)


def test_empty_panels_say_why() -> None:
    said = drawn_texts(figure_of(run.comparison, *all_failed(), {}))
    assert "no case was timed" in said
    assert "no case has a score and a time" in said
    assert "no case was timed at two batch sizes" in said
    assert "no case was timed in two precisions" in said


def test_fonts_are_chosen_for_every_text_of_the_user() -> None:
    results, _ = synthetic.run([Case("own:net", "own:steps", "fit")])
    results[0] |= {"score": "誤差", "device_name": None}
    found = texts_of(results, {"label": "機械"})
    assert {"own:net", "own:steps", "誤差", "機械"} <= {*found}
    assert "None" not in found


def test_page_names_machine_versions_label_and_date() -> None:
    said = drawn_texts(documented())
    assert "Training on Fashion-MNIST: reference" in said
    assert "AMD EPYC 7B13 64-Core Processor · 2 cores, 4 threads" in said
    line = "TensorFlow 2.21.0 · Keras 3.15.1 · Python 3.12.9 · revision 012345678 · 2026-03-01"
    assert line in said


def test_machine_lines_of_gpus_limits_and_a_changed_checkout() -> None:
    environment = {
        "cpu": {"model": "CPU", "cores_logical": 8, "affinity": [0, 1], "cgroup_quota_cpus": 1.5},
        "gpus": [{"name": "NVIDIA H100"}, {"name": "NVIDIA H100"}, {"name": None}],
        "driver_version": "570.1",
        "git": {"revision": "abcdef0123456", "dirty": True},
    }
    assert machine_lines(environment, []) == [
        "CPU · 8 threads, 2 of them allowed, quota 1.5"
        " · 2 \N{MULTIPLICATION SIGN} NVIDIA H100 · GPU",
        "driver 570.1 · revision abcdef012 with changes",
    ]


@pytest.mark.parametrize("environment", [{}, {"cpu": None, "gpus": None, "versions": None}])
def test_unknown_machine_falls_back_on_the_device_names(environment: dict[str, Any]) -> None:
    assert machine_lines(environment, ["A", "", "A", "B"]) == ["A · B", ""]


@pytest.mark.parametrize(
    "label", [KOREAN, "cost $5 & $x^{", "a\tb", "שלום", "W" * 80, "\U0010fffd"]
)
def test_any_label_is_drawn_without_a_warning(label: str, tmp_path: Path) -> None:
    results, rounds = synthetic.run([Case("relu_mlp", "adam", "compiled")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.comparison(results, rounds, {"label": label}, tmp_path / "picture.png")
    with style([label]):
        figure = figure_of(run.comparison, results, rounds, {"label": label})
        title = figure.texts[0].get_window_extent()
    assert title.x1 <= figure.bbox.x1


def test_loops_differ_in_grey() -> None:
    linear = [
        [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        for colour in LOOP_COLOURS.values()
    ]
    lightness = sorted(
        116 * (0.2126 * r + 0.7152 * g + 0.0722 * b) ** (1 / 3) - 16 for r, g, b in linear
    )
    assert all(b - a >= 10 for a, b in itertools.pairwise(lightness))


def test_the_users_own_settings_are_not_touched() -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 31.0}):
        before = dict(matplotlib.rcParams)
        documented()
        assert dict(matplotlib.rcParams) == before


def test_pyplot_is_never_loaded(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
sys.path[:0] = ["tests"]
from support import synthetic
from bench.reports.plots import run as plots
assert "matplotlib" not in sys.modules and "numpy" not in sys.modules
plots.comparison(*synthetic.run(synthetic.documented()), {}, Path(sys.argv[1]))
assert "matplotlib.pyplot" not in sys.modules
"""
    picture = tmp_path / "comparison.png"
    done = subprocess.run([sys.executable, "-c", code, picture], cwd=ROOT, check=False)
    assert done.returncode == 0


def test_a_crash_keeps_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "comparison.png"
    old = b"\x89PNG\r\n Source\0fmnist-bench, old"
    path.write_bytes(old)

    def half(self: Figure, out: Any, **_: Any) -> None:
        out.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(KeyboardInterrupt):
        run.comparison([], [], {}, path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^cannot write .*picture\.png: .*name a folder"):
        run.comparison([], [], {}, tmp_path / "missing" / "picture.png")


def test_sample_row_shows_each_image_over_its_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *args: Any, **options: Any) -> None:
        figures.append(self)
        save(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    images = np.random.default_rng(0).integers(0, 256, (10, 28, 28), dtype=np.uint8)
    labels = np.array([9, 0, 0, 3, 0, 2, 7, 2, 5, 5], dtype=np.uint8)
    names = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"]
    names += ["Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
    run.sample_row(images, labels.tolist(), names, tmp_path / "samples.png")
    (figure,) = figures
    assert [axes.get_xlabel() for axes in figure.axes] == [names[label] for label in labels]
    for axes, image in zip(figure.axes, images, strict=True):
        (shown,) = axes.images
        np.testing.assert_array_equal(shown.get_array(), image)
        assert (shown.get_cmap().name, shown.get_clim()) == ("gray_r", (0, 255))
    assert "The first 10 training images" in drawn_texts(figure)
    test_no_text_leaves_the_page(figure)
    test_no_text_covers_another(figure)
    height, width, _ = imread(tmp_path / "samples.png").shape
    assert width > 5 * height > 500


def test_one_line_keeps_both_ends() -> None:
    assert one_line("a\nb\x00c  d", 10) == "a b c d"
    assert one_line("package.module:build_network", 14) == "packa…_network"
    assert len(one_line("x" * 100, 14)) == 14


def test_fitted_is_never_wider_than_asked() -> None:
    with style([]):
        figure = Figure(dpi=160)
        text = fitted(figure, "W" * 300, 9, 2.0)
        drawn_text = figure.text(0, 0, text, size=9)
    assert 1.8 <= drawn_text.get_window_extent().width / 160 <= 2.0


@pytest.mark.parametrize(
    ("low", "high", "least", "expected"),
    [
        (0.9, 60.0, 1.5, [1, 2, 5, 10, 20, 50]),
        (0.9, 60.0, 2.5, [1, 3, 10, 30]),
        (0.9, 2000.0, 5.0, [1, 10, 100, 1000]),
        (0.9, 2e6, 50.0, [1, 100, 10_000, 1_000_000]),
    ],
)
def test_log_ticks(low: float, high: float, least: float, expected: list[float]) -> None:
    assert log_ticks(low, high, least) == pytest.approx(expected)


def test_log_limits_of_a_single_value_leave_room_for_a_tick() -> None:
    low, high = log_limits([7.0])
    assert high / low == pytest.approx(4.0)
    assert low < 7.0 < high


def test_spread_moves_no_further_than_needed() -> None:
    assert spread([1.0, 3.0], 0.5, 0.0, 4.0) == [1.0, 3.0]
    assert spread([1.0, 1.1, 3.0], 0.5, 0.0, 4.0) == [1.0, 1.5, 3.0]
    assert spread([3.9, 4.0, 4.0], 0.5, 0.0, 4.0) == [3.0, 3.5, 4.0]


def test_synthetic_rows_have_the_columns_of_real_ones() -> None:
    results, rounds = synthetic.run([Case("relu_mlp", "adam", "fit"), logistic_case()])
    assert all(set(row) == set(RESULT_COLUMNS) for row in results)
    assert all(set(row) == set(ROUND_COLUMNS) for row in rounds)


def test_own_models_have_the_same_markers_in_each_picture() -> None:
    models = [f"mine:model_{letter}" for letter in "cab"]
    assert model_markers(models) == model_markers(reversed(models))


@pytest.mark.parametrize(("count", "shapes"), [(7, 7), (9, 1)])
def test_own_models_share_a_marker_only_where_there_are_too_many(count: int, shapes: int) -> None:
    models = [f"mine:model_{number}" for number in range(count)]
    found = model_markers(models)
    assert len({found[model] for model in models}) == shapes
