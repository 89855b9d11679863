"""`python -m bench.peers.parity FILE`: the accuracies of plain `Model.fit`, to compare loops with.

Trains each documented pair of network and optimizer with Keras alone, as a user would write it.
Appends one row per seed to FILE: model, optimizer, seed, val_accuracy, test_accuracy. Rows that
FILE already has are not trained again. The columns can be compared with those of a run's
`launches.jsonl` and `rounds.csv` of the same seeds.
"""

from __future__ import annotations

import argparse
import csv
import os
from itertools import product
from pathlib import Path

from bench.session.ending import run_program
from bench.store.files import Kind, target_of
from fmnist_models import dataset
from fmnist_models.architectures import NETWORKS, build
from fmnist_models.optimizers import OPTIMIZERS, create

COLUMNS = ("model", "optimizer", "seed", "val_accuracy", "test_accuracy")


def bare_fit(
    model_name: str, optimizer: str, seed: int, data: dataset.TrainingData
) -> tuple[float, float]:
    """(validation accuracy, test accuracy) after the five documented epochs."""
    import keras

    keras.utils.set_random_seed(seed)
    model = build(model_name)
    if model.input_shape[1:] == (784,):
        data = data.flat()
    model.compile(
        optimizer=create(optimizer),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(data.train_x, data.train_y, epochs=5, verbose=0)
    _, val_accuracy = model.evaluate(data.val_x, data.val_y, verbose=0)
    _, test_accuracy = model.evaluate(data.test_x, data.test_y, verbose=0)
    keras.backend.clear_session()
    return float(val_accuracy), float(test_accuracy)


def main() -> None:
    """Train the pairs and seeds that FILE does not have yet."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers.parity", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    data = dataset.split(dataset.load())
    done = set()
    target_of(arguments.file, Kind.table(COLUMNS))
    if arguments.file.exists():
        with arguments.file.open(newline="") as lines:
            done = {(r["model"], r["optimizer"], int(r["seed"])) for r in csv.DictReader(lines)}
    else:
        arguments.file.write_text(",".join(COLUMNS) + "\n")
    for key in product(NETWORKS, OPTIMIZERS, arguments.seeds):
        if key not in done:
            row = (*key, *bare_fit(*key, data))
            with arguments.file.open("a", newline="") as out:
                csv.writer(out, lineterminator="\n").writerow(row)


if __name__ == "__main__":
    run_program("bench.peers.parity", main)
