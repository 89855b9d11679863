"""The baseline without a network: scikit-learn's logistic regression by SGD."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fmnist_models.dataset import FashionMnist

if TYPE_CHECKING:
    from sklearn.linear_model import SGDClassifier

FOLDS = 5


class FitObserver(Protocol):
    """Receives the events of each fit."""

    def fit_begins(self) -> None:
        """`fit` is called next."""

    def fit_ends(self, samples: int, passes: int, updates: int) -> None:
        """`fit` has returned, after `passes` passes over `samples` samples."""

    def fold_scored(self, accuracy: float) -> None:
        """The fit was evaluated on the fold that was left out."""

    def scored_on_test(self, accuracy: float) -> None:
        """The fit on all training images was evaluated on the test images."""


def classifier() -> SGDClassifier:
    """The documented classifier."""
    from sklearn.linear_model import SGDClassifier

    return SGDClassifier(loss="log_loss", max_iter=20, random_state=42)


def cross_validate_and_test(data: FashionMnist, observer: FitObserver) -> tuple[int, list[str]]:
    """Evaluate the classifier by 5-fold cross-validation, then on the test images.

    The folds are those of scikit-learn's `cross_validate(cv=5)`, fitted one after the other. One
    more fit on all training images gives the test accuracy. Pixels are divided by 255.0, float64,
    shape (samples, 784).

    Returns:
        the number of coefficients and intercepts, and the warnings of the fits.
    """
    from sklearn.model_selection import StratifiedKFold

    x = data.train_images.reshape(len(data.train_images), -1) / 255.0
    y = data.train_labels
    found: dict[str, None] = {}
    for kept, left_out in StratifiedKFold(FOLDS).split(x, y):
        model = _fit(x[kept], y[kept], observer, found)
        observer.fold_scored(float(model.score(x[left_out], y[left_out])))
    model = _fit(x, y, observer, found)
    test = data.test_images.reshape(len(data.test_images), -1) / 255.0
    observer.scored_on_test(float(model.score(test, data.test_labels)))
    return int(model.coef_.size + model.intercept_.size), list(found)


def _fit(x: Any, y: Any, observer: FitObserver, found: dict[str, None]) -> SGDClassifier:
    from sklearn.exceptions import ConvergenceWarning

    model = classifier()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        observer.fit_begins()
        model.fit(x, y)
        passes = int(np.max(model.n_iter_))
        observer.fit_ends(len(x), passes, len(x) * passes)
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            found[f"stopped at {model.max_iter} passes before it converged"] = None
    return model
