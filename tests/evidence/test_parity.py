"""The same case on two frameworks ends at the same weights, and a difference would be seen."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from support import ROOT

from bench.evidence import parity
from bench.evidence.parity import parity_rows
from fmnist_models.errors import UserError


def test_two_frameworks_train_alike() -> None:
    """The short form of results/evidence/parity.csv."""
    pairs = [("relu_mlp", "adam"), ("softmax", "sgd")]
    told: list[str] = []
    rows = parity_rows(pairs, ["tensorflow", "jax"], told.append, steps=20, epochs=False)
    assert told == ["tensorflow: 2 pairs", "jax: 2 pairs"]
    assert [(row["model"], row["backend"]) for row in rows] == [
        ("relu_mlp", "jax"),
        ("softmax", "jax"),
    ]
    for row in rows:
        assert row["start_apart"] == 0
        assert row["distance"] > 0.1
        assert row["apart"] < 1e-3


def test_what_trains_otherwise_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    start, end = [np.zeros(4), np.zeros(2)], [np.full(4, 0.5), np.zeros(2)]
    other = [np.full(4, 0.505), np.zeros(2)]
    ends = {"tensorflow": [(start, end, 2.0)], "jax": [(start, other, 2.01)]}
    monkeypatch.setattr(parity, "_ends", lambda name, *_: ends[name])
    (row,) = parity_rows([("softmax", "sgd")], ["tensorflow", "jax"], lambda _: None)
    assert row["apart"] == pytest.approx(0.01)
    assert row["loss_apart"] == pytest.approx(0.005)


def test_a_framework_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "why_missing", lambda name: f"{name} is not installed: pip install")
    with pytest.raises(UserError, match="tensorflow is not installed"):
        parity_rows([("softmax", "sgd")], ["tensorflow", "jax"], lambda _: None)


def test_what_the_page_says_of_the_table_is_in_it() -> None:
    """Each documented pair ends at the same weights, and all but one at the same loss."""
    with (ROOT / "results/evidence/parity.csv").open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if "/" not in row["model"]]
    assert len(rows) == 2 * 18
    assert {float(row["start_apart"]) for row in rows} == {0.0}
    assert max(float(row["apart"]) for row in rows) < 2e-6
    far = [(row["model"], row["optimizer"]) for row in rows if float(row["loss_apart"]) > 5e-4]
    assert far == [("relu_mlp", "rmsprop")] * 2
    assert max(float(row["loss_apart"]) for row in rows) < 1.4e-3


def test_what_the_page_says_of_the_examples_is_in_the_table() -> None:
    """Two end alike; the two with an Embedding do not, with JAX as with PyTorch."""
    with (ROOT / "results/evidence/parity.csv").open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if "/" in row["model"]]
    assert len(rows) == 2 * 4
    apart: dict[str, list[float]] = {}
    for row in rows:
        apart.setdefault(row["model"].partition(":")[2], []).append(float(row["apart"]))
    assert max(*apart["convnet"], *apart["waves"]) < 2e-6
    assert apart["tokens"] == pytest.approx([0.42] * 2, abs=0.005)
    assert apart["prices"] == pytest.approx([0.036] * 2, abs=0.0005)
    losses = [float(row["epoch_loss"]) for row in rows if row["model"].endswith("tokens")]
    assert losses == pytest.approx([0.186] * 2, abs=0.0005)
    others = [float(row["loss_apart"]) for row in rows if row["model"].endswith("tokens")]
    assert [0.1859 * (1 + other) for other in others] == pytest.approx([0.332] * 2, abs=0.0005)


def test_a_framework_that_is_killed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = SimpleNamespace(returncode=-9, stderr="")
    monkeypatch.setattr(parity, "why_missing", lambda _: None)
    monkeypatch.setattr(parity.subprocess, "run", lambda *_, **__: killed)
    with pytest.raises(UserError, match="jax ended with code -9: it printed nothing"):
        parity_rows([("softmax", "sgd")], ["jax", "torch"], lambda _: None)


def test_accuracies_over_seeds_are_compared_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: differences 0.01, 0.02 and 0.03, of mean 0.02 and deviation 0.01; t(0.975, 2)."""
    ends = {"tensorflow": [0.80, 0.70, 0.75], "torch": [0.81, 0.72, 0.78]}
    asked: list[dict[str, object]] = []

    def kept(name: str, *rest: object) -> list[dict[str, object]]:
        """What a child would have kept of one pair."""
        asked.append(rest[-1])  # type: ignore[arg-type]
        return [{"accuracies": np.array(ends[name])}]

    monkeypatch.setattr(parity, "_kept", kept)
    pairs = [("softmax", "sgd")]
    (row,) = parity.accuracy_rows(pairs, ["tensorflow", "torch"], lambda _: None, 3, 2)
    assert asked == [{"seeds": [7, 8, 9], "epochs": 2}] * 2
    assert row["difference"] == pytest.approx(0.02)
    half = 4.302653 * 0.01 / 3**0.5
    assert (row["lower"], row["upper"]) == pytest.approx((0.02 - half, 0.02 + half))
    assert (row["accuracy"], row["reference_accuracy"]) == pytest.approx((0.77, 0.75))


def test_two_frameworks_end_with_like_accuracies() -> None:
    """Real trainings, an epoch with two seeds each; chance is 0.1."""
    (row,) = parity.accuracy_rows(
        [("softmax", "adam")], ["tensorflow", "jax"], lambda _: None, 2, 1
    )
    assert min(row["accuracy"], row["reference_accuracy"]) > 0.7
    assert abs(row["difference"]) < 0.03
    # Each seed has its own weights and order.
    assert row["lower"] < row["upper"]


def test_what_the_page_says_of_the_accuracies_is_in_the_table() -> None:
    """Each interval of the difference of two frameworks holds 0, and all but one are small."""
    with (ROOT / "results/evidence/accuracies.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 2 * 18
    assert {(row["seeds"], row["epochs"]) for row in rows} == {("5", "5")}
    assert all(float(row["lower"]) < 0 < float(row["upper"]) for row in rows)
    large = [row for row in rows if abs(float(row["difference"])) > 0.005]
    assert [(row["model"], row["optimizer"], row["backend"]) for row in large] == [
        ("relu_mlp", "adam", "jax")
    ]
    assert abs(float(large[0]["difference"])) < 0.008
