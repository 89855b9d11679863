"""`python -m bench.peers`: what it measures in which order, its ratios, tables and mistakes."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from support import Program

from bench.analysis.stats import student_interval
from bench.backends import KNOWN
from bench.machine import placement
from bench.machine.nvml import Inventory
from bench.peers import known, turns
from bench.peers.known import LOSS_ONLY, NAMES, by_hand, chosen
from bench.peers.ratios import Promise, Ratio, ratio
from bench.peers.tables import promise_lines, tables, write
from bench.peers.training import PeerLaunch, initial_weights
from bench.peers.turns import Measured, Plan, order_of_launches
from bench.schema.case import Case
from fmnist_models.errors import UserError

CASE = Case("relu_mlp", "adam", "compiled", threads=2)
HERE = Inventory()


def plan(names: Sequence[str], batch_sizes: Sequence[int] = (32,), launches: int = 3) -> Plan:
    return Plan(names, batch_sizes, launches, 42, 1, CASE)


def launch(
    name: str, number: int, seconds: float, accuracy: float = 0.9, batch: int = 32
) -> Measured:
    accuracies = [] if name.endswith(LOSS_ONLY) else [accuracy]
    found = PeerLaunch(batch, 1000, [seconds], [seconds / 2], [0.3], accuracies, "cpu", "made 1")
    return Measured(name, number, found)


def in_rounds(name: str, seconds: Sequence[float]) -> Measured:
    return Measured(name, 0, PeerLaunch(32, 1000, list(seconds), list(seconds)))


def launches(name: str, *seconds: float) -> list[Measured]:
    return [launch(name, number, s) for number, s in enumerate(seconds)]


def printed(measured: Sequence[Measured], plan: Plan) -> str:
    console = Console(width=80)
    with console.capture() as captured:
        for shown in tables(measured, plan):
            console.print(shown, markup=False, highlight=False)
    return captured.get()


def row(text: str, *beginning: str) -> list[str]:
    """The cells of the first row that begins so."""
    rows = [line.split() for line in text.splitlines()]
    return next(cells for cells in rows if cells[: len(beginning)] == list(beginning))


def test_a_ratio_is_of_samples_per_second_with_students_interval_over_pairs_of_launches() -> None:
    ours, theirs = (2.0, 2.0, 4.0), (4.0, 5.0, 6.0)
    measured = [*launches("compiled", *ours), *launches("tensorflow_xla", *theirs)]
    found = ratio(measured, 32, "compiled", "tensorflow_xla")
    assert found is not None
    logs = [math.log(b / a) for a, b in zip(ours, theirs, strict=True)]
    ends = student_interval(logs)
    assert ends is not None
    assert found.ratio == pytest.approx((2 * 2.5 * 1.5) ** (1 / 3))
    assert (found.low, found.high) == pytest.approx(tuple(map(math.exp, ends)))
    assert found.launches == 3


def test_rounds_that_alternated_are_compared_one_by_one() -> None:
    """What the host did to both rounds of a pair leaves no trace; between groups it does."""
    host = (1.0, 3.0, 1.0, 2.0, 1.5)
    ours = in_rounds("compiled", [1.0 * slow for slow in host])
    theirs = in_rounds("tensorflow_xla", [1.1 * slow for slow in host])
    found = ratio([ours, theirs], 32, "compiled", "tensorflow_xla")
    assert found is not None
    assert found.ratio == pytest.approx(1.1)
    apart = in_rounds("compiled-jax", [1.1 * slow for slow in (2.0, 2.0, 2.0, 1.0, 1.0)])
    found = ratio([ours, apart], 32, "compiled", "compiled-jax")
    assert found is not None
    assert found.ratio == pytest.approx(2.2 / 1.5)


def test_only_launches_of_one_number_are_a_pair() -> None:
    measured = [launch("compiled", 0, 2.0), launch("compiled", 1, 1.0), launch("fit", 1, 3.0)]
    found = ratio(measured, 32, "compiled", "fit")
    assert found == Ratio(32, "compiled", "fit", pytest.approx(3.0), None, None, 1)
    assert ratio(measured, 128, "compiled", "fit") is None
    assert ratio([launch("compiled", 0, 2.0), launch("fit", 1, 3.0)], 32, "compiled", "fit") is None


@pytest.mark.parametrize(
    ("low", "high", "promise"),
    [
        (0.97, 1.2, Promise.HELD),
        (0.96, 1.2, Promise.NOT_SHOWN),
        (0.8, 0.96, Promise.BROKEN),
        (None, None, Promise.NOT_SHOWN),
    ],
)
def test_the_promise_is_of_the_lower_end(
    low: float | None, high: float | None, promise: Promise
) -> None:
    for peer, hand in (("compiled", "tensorflow_xla"), ("compiled-jax_loss", "jax_scan_loss")):
        assert Ratio(32, peer, hand, 1.0, low, high, 3).promise is promise
    for peer, hand in (
        ("compiled-torch", "torch_eager"),
        ("fit", "tensorflow_xla"),
        ("compiled", "jax_scan"),
        ("tensorflow_xla", "compiled"),
    ):
        assert Ratio(32, peer, hand, 1.0, low, high, 3).promise is None


def test_the_promise_is_told_by_batch_size_of_the_fastest_by_hand() -> None:
    found = [
        Ratio(32, "compiled", "tensorflow_xla", 1.1, 1.0, 1.2, 3),
        Ratio(32, "compiled", "tensorflow_function", 2.0, 1.9, 2.1, 3),
        Ratio(512, "compiled", "tensorflow_xla", 0.9, 0.85, 0.95, 3),
        Ratio(2048, "compiled", "tensorflow_xla", 1.0, 0.9, 1.1, 3),
    ]
    (line,) = promise_lines(found)
    assert "held at batch 32 (1.00); not shown at batch 2048 (0.90)" in line
    assert "broken at batch 512 (0.85)." in line
    # A slower program by hand says nothing sure there, and must not hide the one that does.
    unsure = Ratio(512, "compiled", "tensorflow_function", 1.0, 0.8, 1.2, 3)
    (line,) = promise_lines([*found, unsure])
    assert "broken at batch 512 (0.85)." in line
    (line,) = promise_lines(found[:1])
    assert "held at batch 32 (1.00); not measured beside tensorflow_function." in line


def test_tables_fit_a_terminal_and_compare_the_same_work() -> None:
    measured = []
    for name, peer in NAMES.items():
        measured += launches(name, 1.0, 1.1, 1.3) if peer.framework != "jax" else []
    text = printed(measured, plan(list(NAMES)))
    assert max(map(len, text.splitlines())) <= 80
    assert "relu_mlp, adam, float32, cpu, threads: 2\n" in text
    assert "relu_mlp, adam, float32, cpu, threads: 2, without the accuracy\n" in text
    assert "Keras's samples/s over those of PyTorch by hand" in text
    assert "Keras's samples/s over those of JAX by hand" not in text
    for name, peer in NAMES.items():
        if peer.framework != "jax":
            assert row(text, "32", name)
    assert "…" not in text


def test_a_table_tells_rates_ratios_and_the_accuracy_of_the_last_common_round() -> None:
    measured = [
        launch("compiled", 0, 2.0, 0.8),
        launch("compiled", 1, 2.0, 0.9),
        *launches("tensorflow_xla", 4.0, 4.0),
    ]
    longer = measured[0].found
    longer.accuracies.append(0.99)
    text = printed(measured, plan(["compiled", "tensorflow_xla"]))
    assert row(text, "32", "compiled") == ["32", "compiled", "500", "1", "0.800-0.900"]
    cells = ["32", "tensorflow_xla", "250", "0.50", "(0.50", "to", "0.50)", "0.900-0.900"]
    assert row(text, "32", "tensorflow_xla") == cells
    cells = row(text.split("by hand")[1], "32", "compiled")
    assert cells[2:] == ["2.00", "(2.00", "to", "2.00)"]


def test_one_launch_has_no_interval_and_says_so() -> None:
    text = printed(
        [*launches("compiled", 1.0), *launches("tensorflow_xla", 2.0)],
        plan(["compiled", "tensorflow_xla"]),
    )
    assert "2.00 (one launch)" in text
    assert "not shown at batch 32" in text


def test_what_was_measured_is_shown_when_the_rest_is_missing() -> None:
    text = printed(launches("fit", 8.0), plan(["compiled", "fit"], (32, 128)))
    assert row(text, "32", "fit") == ["32", "fit", "125", "0.900-0.900"]
    assert "128" not in text


def test_peers_without_accuracy_are_compared_among_themselves() -> None:
    names = ["compiled", "tensorflow_xla", "tensorflow_xla_loss"]
    measured = [
        m for name, s in zip(names, (1.0, 2.0, 4.0), strict=True) for m in launches(name, s)
    ]
    text = printed(measured, plan(names))
    assert "4.00" not in text
    assert row(text, "32", "tensorflow_xla_loss") == ["32", "tensorflow_xla_loss", "250", "1"]


def test_the_files_hold_every_launch_and_every_ratio_once(tmp_path: Path) -> None:
    names = ["compiled", "tensorflow_xla", "jax_scan", "compiled_loss"]
    measured = [m for name in names for m in launches(name, 1.0, 1.5)]
    file = tmp_path / "peers.csv"
    write(file, measured, plan(names))
    with file.open(newline="") as lines:
        ratios = list(csv.DictReader(lines))
    with (tmp_path / "peers_launches.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [(r["peer"], r["over"], r["promise"]) for r in ratios] == [
        ("compiled", "tensorflow_xla", "held"),
        ("tensorflow_xla", "compiled", ""),
        ("jax_scan", "compiled", ""),
    ]
    assert {r["launches"] for r in ratios} == {"2"}
    assert [(r["peer"], r["launch"]) for r in rows] == [(n, k) for n in names for k in "01"]
    assert [float(r["samples_per_s"]) for r in rows[:2]] == pytest.approx([1000, 1000 / 1.5])
    assert {(r["cores"], r["threads"], r["software"]) for r in rows} == {("0.5", "2", "made 1")}
    assert [r["train_accuracy"] for r in rows[-2:]] == ["", ""]
    write(file, measured, plan(names))


def test_turns_are_random_and_keep_what_is_compared_together() -> None:
    names = list(NAMES)
    orders = [order_of_launches(plan(names, (32, 128, 512, 2048)), k) for k in range(6)]
    for groups, batches in orders:
        assert sorted(name for group in groups for name in group) == sorted(names)
        assert sorted(batches) == [32, 128, 512, 2048]
        kinds = [{(NAMES[n].framework, n.endswith(LOSS_ONLY)) for n in group} for group in groups]
        assert all(len(kind) == 1 for kind in kinds)
        assert len(set().union(*kinds)) == len(groups)
    assert len({tuple(map(tuple, groups)) for groups, _ in orders}) == 6
    assert len({tuple(batches) for _, batches in orders}) > 1
    assert orders[0] == order_of_launches(plan(names, (32, 128, 512, 2048)), 0)


def test_a_process_that_cannot_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "child_command", lambda _: ("/nowhere/python",))
    with pytest.raises(UserError, match=r"^sklearn_loss: cannot start /nowhere/python: "):
        turns.measure(plan(["sklearn_loss"]), HERE, lambda _: None)


def test_every_loop_is_beside_its_framework_by_hand() -> None:
    assert by_hand("fit") == by_hand("bare_fit") == ["tensorflow_function", "tensorflow_xla"]
    assert by_hand("multistep-jax_loss") == ["jax_scan_loss"]
    assert by_hand("compiled-torch") == ["torch_eager", "torch_compiled"]


def absent(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    monkeypatch.setattr(known, "find_spec", lambda name: None if name in packages else True)
    monkeypatch.setattr(placement, "is_there", lambda name: name not in packages)


def test_what_cannot_train_here_is_left_out_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    absent(monkeypatch, "tensorflow", "optax")
    names, left_out = chosen(None, CASE, HERE)
    assert names[:3] == ("compiled-jax", "multistep-jax", "fit-jax")
    assert {NAMES[name].framework for name in names} == {"jax", "torch", "sklearn", "numpy"}
    told = dict(line.split(": ", 1) for line in left_out)
    assert told["compiled"].startswith("tensorflow is not installed in this environment")
    assert told["jax_scan"] == "optax is not installed: pip install .[peers]"
    assert told["multistep-torch"].startswith("Keras refuses steps_per_execution above 1")
    assert not {"bare_fit", "keras_sketch"} & {*names, *told}
    assert set(names) | set(told) == {name for name, peer in NAMES.items() if peer.usual}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "compiled",
            r"peer 'compiled': tensorflow is not installed .*; or leave it out of --peers",
        ),
        ("jax_scan", r"peer 'jax_scan': optax is not installed: pip install \.\[peers\]"),
        ("multistep-torch", "peer 'multistep-torch': Keras refuses steps_per_execution"),
        ("sklearn", "peer 'sklearn': it computes no accuracy .* name sklearn_loss"),
    ],
)
def test_a_peer_that_is_named_and_cannot_train_is_an_error(
    name: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent(monkeypatch, "tensorflow", "optax")
    with pytest.raises(UserError, match=told):
        chosen(f"fit-torch,{name}", CASE, HERE)


def test_where_no_framework_is_installed_numpy_and_scikit_learn_still_train(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    absent(monkeypatch, *(package for one in KNOWN.values() for package in one.packages))
    assert chosen(None, CASE, HERE)[0] == ("blas", "blas_loss", "sklearn_loss")
    with pytest.raises(UserError, match="no peer can train here: compiled: tensorflow"):
        chosen(None, replace(CASE, model="softmax"), HERE)


def test_variables_that_choose_another_blas_do_not_reach_its_peers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "1")
    for name in ("blas", "sklearn_loss"):
        found = turns.environment(name, CASE, HERE)
        assert not [variable for variable in found if variable.startswith("OPENBLAS_CORE")]
        assert "OPENBLAS_L2_SIZE" not in found


def test_peers_by_hand_are_left_out_of_other_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    absent(monkeypatch)
    names, left_out = chosen(None, replace(CASE, model="softmax"), HERE)
    assert all(NAMES[name].keras for name in names)
    assert "jax_scan: trains relu_mlp with adam in float32 only" in left_out


def test_initial_weights_are_those_that_keras_draws() -> None:
    keras = pytest.importorskip("keras")
    from fmnist_models.architectures import build
    from fmnist_models.loops.start import the_same_weights

    with the_same_weights(7):
        model = build("relu_mlp")
    for ours, theirs in zip(initial_weights(7), model.trainable_variables, strict=True):
        assert (ours == keras.ops.convert_to_numpy(theirs)).all()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--peers", "caffe"], "unknown peer 'caffe': choose from compiled"),
        (["--peers", ","], "--peers ',': a value is empty"),
        (["--peers", "sklearn_loss", "--model", "softmax"], "trains relu_mlp with adam"),
        (["--model", "resnet"], "unknown model 'resnet'"),
        (["--precision", "float32,tf32"], "unknown precision 'float32,tf32'"),
        (["--batch-sizes", "32,0"], "--batch-sizes 0: must be at least 1"),
        (["--batch-sizes", "many"], "--batch-sizes 'many': must be a whole number"),
        (["--threads", "some"], "--threads 'some': must be a whole number"),
        (["--threads", "1,2"], "--threads '1,2': name one number"),
        (["--peers", "sklearn_loss", "--data", "nowhere"], "nowhere"),
        (["--output", "nowhere/peers.csv"], "cannot write to nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    program: Program, words: list[str], told: str
) -> None:
    done = program("bench.peers", *words)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_scikit_learn_is_measured_from_end_to_end(
    program: Program, small_data: Path, tmp_path: Path
) -> None:
    words = ["--peers", "sklearn_loss", "--launches", 2, "--rounds", 2]
    words += ["--batch-sizes", "96,250", "--data", small_data, "--output", "peers.csv"]
    done = program("bench.peers", *words, "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert row(done.stdout, "96", "sklearn_loss")
    assert row(done.stdout, "250", "sklearn_loss")
    assert "launch 2 of 2, sklearn_loss, batch 96:" in done.stderr
    with (tmp_path / "peers_launches.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert sorted((r["batch_size"], r["launch"]) for r in rows) == [
        *(("250", "0"), ("250", "1"), ("96", "0"), ("96", "1"))
    ]
    (tmp_path / "peers.csv").write_text("somebody's own\n")
    done = program("bench.peers", *words)
    assert done.returncode == 2
    assert "peers.csv is there already and is not a table of this suite" in done.stderr
