"""The baseline is scikit-learn's own cross-validation, fit by fit."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from fmnist_models import dataset, logistic


class Recorder:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.work: list[tuple[int, int, int]] = []
        self.folds: list[float] = []
        self.test: float | None = None

    def fit_begins(self) -> None:
        self.events.append("begin")

    def fit_ends(self, samples: int, passes: int, updates: int) -> None:
        self.events.append("end")
        self.work.append((samples, passes, updates))

    def fold_scored(self, accuracy: float) -> None:
        self.events.append("fold")
        self.folds.append(accuracy)

    def scored_on_test(self, accuracy: float) -> None:
        self.events.append("test")
        self.test = accuracy


@pytest.fixture(scope="module")
def told(small_data: Path) -> tuple[dataset.FashionMnist, Recorder, int, list[str]]:
    data = dataset.load(small_data)
    recorder = Recorder()
    return data, recorder, *logistic.cross_validate_and_test(data, recorder)


def test_folds_are_those_of_cross_validate(
    told: tuple[dataset.FashionMnist, Recorder, int, list[str]],
) -> None:
    from sklearn.linear_model import SGDClassifier
    from sklearn.model_selection import cross_validate

    data, recorder, *_ = told
    x = data.train_images.reshape(len(data.train_images), -1) / 255.0
    documented = SGDClassifier(loss="log_loss", max_iter=20, random_state=42)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = cross_validate(documented, x, data.train_labels, cv=5)
        documented.fit(x, data.train_labels)
    assert recorder.folds == expected["test_score"].tolist()
    test = data.test_images.reshape(len(data.test_images), -1) / 255.0
    assert recorder.test == documented.score(test, data.test_labels)


def test_each_fit_is_told_with_its_work(
    told: tuple[dataset.FashionMnist, Recorder, int, list[str]],
) -> None:
    _, recorder, parameters, found = told
    assert recorder.events == ["begin", "end", "fold"] * 5 + ["begin", "end", "test"]
    assert [samples for samples, *_ in recorder.work] == [800] * 5 + [1000]
    assert all(samples * passes == updates for samples, passes, updates in recorder.work)
    assert all(1 <= passes <= 20 for _, passes, _ in recorder.work)
    assert parameters == 7_850
    assert found == ["stopped at 20 passes before it converged"]
