"""Estimates how long a run will take, from the committed reference run and that of the backends.

Nothing is known there of a user's own model, whose estimates are the least that they can take.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from bench.backends import DEFAULT
from bench.machine.loaded import CHECKOUT
from bench.schema.case import MODELS, SKLEARN_LOOP, Case
from bench.schema.launch import Status
from bench.schema.plan import LEAST, RunSettings
from bench.store.run_folder import RunFolder
from fmnist_models import dataset
from fmnist_models.errors import UserError

REFERENCE = CHECKOUT / "results" / "reference"
# A run of all backends; the reference run is of the default one.
BACKENDS_RUN = CHECKOUT / "results" / "examples" / "backends"
IMPORT_S = 10.0
# Without a reference run: samples/s at batch 32 on two cores, and seconds of a warm-up and of a
# launch of `logistic`.
_ROUGH_RATE = {"fit": 9_000.0, "multistep": 25_000.0, "compiled": 150_000.0}
_ROUGH_WARMUP_S = 3.0
_ROUGH_LOGISTIC_S = 120.0
# Seconds of the ceilings, before and after together: for each setting of the machine, and
# for each shape of products in it.
_PEAKS_S, _PRODUCTS_S = 10.0, 4.0


@cache
def reference_rows() -> tuple[dict[str, Any], ...]:
    """The rows of the reference run that ended ok; () where it is not installed."""
    return _rows_of(REFERENCE)


@cache
def _rows_of(folder: Path) -> tuple[dict[str, Any], ...]:
    try:
        rows = RunFolder(folder).results()
    except UserError:
        return ()
    return tuple(row for row in rows if row["status"] == Status.OK)


def is_known(case: Case) -> bool:
    """Whether the speed of a case can be estimated."""
    return case.model in MODELS


def run_seconds(cases: Sequence[Case], settings: RunSettings) -> float:
    """Seconds that all launches of `cases` will take on a machine like the reference."""
    limited = [case for case in cases if case.has_ceilings]
    shapes = {(case.setting, case.model, case.batch_size) for case in limited}
    settings_of = {setting for setting, *_ in shapes}
    ceilings_s = _PEAKS_S * len(settings_of) + _PRODUCTS_S * len(shapes)
    launches_s = sum(launch_seconds(case, settings) * settings.launches_of(case) for case in cases)
    return IMPORT_S + ceilings_s + launches_s


def launch_seconds(
    case: Case,
    settings: RunSettings,
    samples: int | None = None,
    least: Mapping[str, tuple[int, float]] = LEAST,
) -> float:
    """Seconds of one launch, from the most similar row of the reference run.

    They are scaled to the number of rounds and of samples in each. Of a user's own model they are
    those of a warm-up and of the least training.

    Args:
        case: the case.
        settings: settings of the run.
        samples: training samples of an epoch; None for those of the settings' data.
        least: least (rounds, seconds) of a launch, by loop.
    """
    least_rounds, least_s = least.get(case.loop, (0, 0.0))
    if not is_known(case):
        return _ROUGH_WARMUP_S + least_s
    row = _nearest(case, _rows_like(case))
    if samples is None:
        samples = training_samples(settings.data)
    if case.loop == SKLEARN_LOOP:
        whole = float(row["total_s"]) if row else _ROUGH_LOGISTIC_S
        return whole * samples / training_samples(None)
    if settings.steps is not None:
        samples = min(samples, settings.steps * case.batch_size)
    if row is None:
        around, epoch_s = _ROUGH_WARMUP_S, samples / _ROUGH_RATE[case.loop]
    else:
        around = row["total_s"] - row["epoch_s"] * row["rounds"] / row["launches"]
        epoch_s = row["epoch_s"] * samples / training_samples(None)
    return float(around + epoch_s * max(settings.epochs_of(case), least_rounds, least_s / epoch_s))


@cache
def training_samples(data: str | None) -> int:
    """Training samples of the images in a folder; None for the embedded ones.

    An error in the folder is reported where its files are read.
    """
    if data is not None:
        try:
            return dataset.training_samples(Path(data))
        except UserError:
            pass
    return dataset.training_samples(None)


def _rows_like(case: Case) -> Sequence[Mapping[str, Any]]:
    """The rows of the case's backend and loop; those of the reference run where there are none."""
    if case.backend == DEFAULT:
        return reference_rows()
    kind = (case.backend, case.loop)
    own = [row for row in _rows_of(BACKENDS_RUN) if (row["backend"], row["loop"]) == kind]
    return own or reference_rows()


def _nearest(case: Case, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The row of the same loop that is most similar to `case`; None where there is none."""

    def distance(row: Mapping[str, Any]) -> float:
        """The distance of a row from `case`; 0 for the row of the same case."""
        return float(
            4 * (row["model"] != case.model)
            + 2 * (row["precision"] != case.precision)
            + abs(math.log2(row["batch_size"] / case.batch_size))
            + 0.5 * (row["optimizer"] != case.optimizer)
            + 4 * (row["device"] != case.device)
        )

    return min((row for row in rows if row["loop"] == case.loop), key=distance, default=None)
