"""Damages files of runs, duels and images, and tests how the verbs read them.

Right results are an error of one line that names the file or the folder, or unchanged figures.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.evidence.made_runs import make_run
from bench.evidence.torture.damage import damaged
from bench.launch.launcher import Launcher
from bench.launch.origin import digest_of
from bench.machine import variables
from bench.machine.loaded import CHECKOUT
from bench.reports.page.records import case_records, round_records
from bench.reports.page.source import read_profiles, read_sources
from bench.schema.case import Case
from bench.schema.draws import SIDES
from bench.schema.duel import Block, DuelPlan, Spec
from bench.schema.plan import RunSettings
from bench.schema.runs import MeasuredRun
from bench.schema.sizes import Sizes
from bench.session import duel as duelling
from bench.session.attempts import RunUnderWay
from bench.session.blocks import CONTROL_COLUMNS, Blocks
from bench.session.control import Reading, control_cells
from bench.session.duel_side import DuelSide
from bench.session.events import Progress
from bench.store import baselines, proof
from bench.store.filetypes import BLOCKS, PHASES
from bench.store.measured import read_in_full, read_run
from bench.store.named import named_runs
from bench.store.run_folder import RunFolder
from bench.store.tables import write_csv, write_json
from bench.verdicts.check import check
from bench.verdicts.compare import compare
from bench.verdicts.compatibility import refuse_changed_files, refuse_mixing
from fmnist_models import dataset
from fmnist_models.errors import UserError

CASES = (Case("softmax", "sgd", "fit"), Case("relu_mlp", "adam", "compiled", batch_size=512))
_ROUNDS, _BLOCKS, _EPOCHS = 6, 4, 2
# A file of the suite whose digest the generated runs record; real runs record all of them.
_RAN = "bench/schema/case.py"


@dataclass(frozen=True, slots=True)
class Trial:
    """One damaged file, and the outcome.

    Attributes:
        seed: the seed of the damage.
        file: its path in the run.
        how: the damage.
        outcome: `refused`, `same`, or what was wrong.
    """

    seed: int
    file: str
    how: str
    outcome: str

    @property
    def right(self) -> bool:
        """Whether nothing was wrong."""
        return self.outcome in ("refused", "same")


@dataclass(frozen=True, slots=True)
class _Whole:
    """The contents of the undamaged files, as the verbs read them.

    Attributes:
        run: the run that is damaged.
        stored: three other runs.
        blocks: the blocks of the duel in the run's folder, by number.
        images: digest of the duel's images.
    """

    run: MeasuredRun
    stored: Sequence[MeasuredRun]
    blocks: Mapping[int, Block]
    images: str


# Reads a damaged run; returns whether the figures are unchanged.
_Verb = Callable[[Path, _Whole], bool]


def torture(folder: Path, seeds: Sequence[int]) -> Iterator[Trial]:
    """Carry out one trial for each seed, below an empty `folder`."""
    runs = [make_run(folder / "base" / f"run{k}", k, CASES, rounds=_ROUNDS) for k in range(3)]
    path = make_run(folder / "whole", 9, CASES, rounds=_ROUNDS)
    images = _make_images(path / "duel" / "data")
    _make_duel(path / "duel", images)
    _make_profile(path)
    _record_more(path)
    proof.keep_proof(read_in_full(path))
    stored = [read_run(run) for run in runs]
    whole = _Whole(read_run(path), stored, _blocks(path / "duel"), images)
    for seed in seeds:
        yield _trial(folder, whole, seed)


def counts(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """One row per file: numbers of trials, refusals, unchanged figures, and wrong results."""
    found = []
    for file in dict.fromkeys(sorted(trial.file for trial in trials)):
        own = Counter(t.outcome if t.right else "wrong" for t in trials if t.file == file)
        found.append(
            {
                "file": file,
                "trials": own.total(),
                "refused": own["refused"],
                "same_figures": own["same"],
                "wrong": own["wrong"],
            }
        )
    return found


def _trial(folder: Path, whole: _Whole, seed: int) -> Trial:
    chance = random.Random(seed)
    run = folder / "damaged"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(whole.run.path, run)
    file = chance.choice(sorted(path for path in run.rglob("*") if path.is_file()))
    how = damaged(file, chance)
    name = file.relative_to(run).as_posix()
    outcomes = {_outcome(verb, run, whole) for verb in _verbs(name)}
    wrong = sorted(outcomes - {"refused", "same"})
    outcome = wrong[0] if wrong else "refused" if "refused" in outcomes else "same"
    return Trial(seed, name, how, outcome)


def _outcome(verb: _Verb, run: Path, whole: _Whole) -> str:
    name = verb.__name__.strip("_")
    try:
        same = verb(run, whole)
    except UserError as error:
        said = str(error)
        named = run.name in said or "--" in said
        one_line = said.isprintable() and len(said) < 2000
        return "refused" if named and one_line else f"{name} says {said[:200]!a}"
    except Exception as error:  # noqa: BLE001 - which one it is, is what this asks
        return f"{name} raised {type(error).__name__}: {ascii(error)[:200]}"
    return "same" if same else f"{name} took other figures"


def _figures(run: MeasuredRun) -> str:
    """The figures of a run as text, with 12 digits, because the order of sums changes the last."""
    rows = [
        (case, name, f"{value:.12g}" if isinstance(value, float) else str(value))
        for case, row in sorted(run.rows.items())
        for name, value in row.items()
        if name not in ("reason", "warnings")
    ]
    logs = [(case, [f"{log:.12g}" for log in sorted(own)]) for case, own in run.logs.items()]
    return repr((rows, sorted(logs)))


def _compare(run: Path, whole: _Whole) -> bool:
    found = named_runs([whole.stored[0].path, run])
    compare(found)
    return _figures(list(found.values())[1]) == _figures(whole.run)


def _check(run: Path, whole: _Whole) -> bool:
    now = read_run(run)
    check(whole.stored, [now], Sizes.of_check())
    return _figures(now) == _figures(whole.run)


def _report(run: Path, whole: _Whole) -> bool:
    sources = read_sources([run])
    read_profiles([run])
    case_records(sources)
    round_records(sources)
    return _figures(sources[0].run) == _figures(whole.run)


def _baseline(run: Path, _: _Whole) -> bool:
    base = run.parent / "kept"
    shutil.rmtree(base, ignore_errors=True)
    baselines.add(base, [run])
    baselines.describe(base)
    baselines.remove(base, [run.name])
    return True


def _resume(run: Path, whole: _Whole) -> bool:
    _under_way(run, whole.run.environment)
    return True


def _duel(run: Path, whole: _Whole) -> bool:
    """Whether the blocks that would not be measured again are unchanged."""
    duelling.finished(duelling.resume(run / "duel"), run / "duel")
    return all(whole.blocks[number] == block for number, block in _blocks(run / "duel").items())


def _side(run: Path, whole: _Whole) -> bool:
    """Read the sides of a duel. True: a changed number in rounds or launches cannot be noticed."""
    made = {**whole.run.environment, "dataset_digest": whole.images}
    for side in SIDES:
        _under_way(run / "duel" / side, made)
    _blocks(run / "duel")
    return True


def _images(run: Path, whole: _Whole) -> bool:
    digest = dataset.load(run / "duel" / "data").digest
    then = RunFolder(run / "duel" / "a").environment() or {}
    refuse_mixing(run / "duel" / "a", then, {**whole.run.environment, "dataset_digest": digest})
    return digest == whole.images


def _under_way(run: Path, now: Mapping[str, Any]) -> RunUnderWay:
    """Prepare a run or a side of a duel for resuming."""
    folder, plan = RunFolder.resume(run)
    then = folder.environment() or {}
    refuse_mixing(run, then, now)
    refuse_changed_files(run, then, {"suite": CHECKOUT})
    variables.warning(then)
    return RunUnderWay(plan, folder, Progress(), Launcher())


def _blocks(path: Path) -> dict[int, Block]:
    """The blocks of a duel that need not be measured again, by number."""
    plan = duelling.resume(path)
    (case,) = plan.cases
    sides = {}
    for side in SIDES:
        folder, own = RunFolder.resume(path / side)
        sides[side] = DuelSide(RunUnderWay(own, folder, Progress(), Launcher()), Spec())
    blocks = Blocks(path, sides, plan.settings)
    draws, found = plan.draws, {}
    for number in range(_BLOCKS):
        # Drawn for each block in order, as a duel does.
        draws.cases(number, [case])
        draw = draws.block(case, number)
        if blocks.holds(case, number):
            found[number] = blocks.measured(case, number, draw)
    return found


def _verbs(file: str) -> Sequence[_Verb]:
    """The verbs that read a file."""
    if file.startswith("duel/data/"):
        return (_images,)
    if file.startswith("duel/") and file.count("/") > 1:
        return (_side,)
    if file.startswith("duel/"):
        return (_duel,)
    if file == "profile.csv":
        return (_report,)
    # `_resume` is last, because it cuts off an unfinished line.
    return _compare, _check, _report, _baseline, _resume


def _record_more(run: Path) -> None:
    """Record the files that ran and overruled variables, which `make_run` does not."""
    folder = RunFolder(run)
    listing = {"suite": {_RAN: hashlib.sha256((CHECKOUT / _RAN).read_bytes()).hexdigest()}}
    more = {"code": {digest_of(listing): listing}, "overruled": {"KERAS_BACKEND": "jax"}}
    folder.write_environment({**(folder.environment() or {}), **more})


def _make_images(folder: Path) -> str:
    """Write a hundred training and a hundred test images; returns their digest."""
    chance = np.random.default_rng(0)
    images = [chance.integers(0, 256, (100, 28, 28), dtype=np.uint8) for _ in range(2)]
    labels = np.arange(100, dtype=np.uint8) % 10
    dataset.write(folder, images[0], labels, images[1], labels)
    return dataset.load(folder).digest


def _make_duel(path: Path, images: str) -> None:
    """Write a duel of a few blocks to the folder where `check --confirm` writes it."""
    case = CASES[1]
    settings = RunSettings(epochs=_EPOCHS)
    spec = Spec(variables=(("A", "1"),))
    plan = DuelPlan(Spec(), spec, (case,), settings, entropy="0" * 32)
    write_json(path / "duel.json", plan.to_json())
    for seed, side in enumerate(SIDES):
        make_run(path / side, seed, (case,), rounds=_ROUNDS, launches=_BLOCKS)
        _record_more(path / side)
        folder = RunFolder(path / side)
        folder.write_environment({**(folder.environment() or {}), "dataset_digest": images})
    chance = random.Random(0)
    rows, told = [], []
    for number in range(_BLOCKS):
        draw = plan.draws.block(case, number)
        order = "".join(itertools.islice(draw.firsts, 1 + _ROUNDS))
        readings = _readings(order, chance)
        told += [(case.id, number, *astuple(reading)) for reading in readings]
        rows.append(
            {
                "case": case.id,
                "block": number,
                "first": order[0],
                **{f"template_{side}": draw.templates[side] for side in SIDES},
                "order": order,
                **control_cells(order, readings),
            }
        )
    write_csv(path / "blocks.csv", BLOCKS.columns, rows)
    write_csv(
        path / "control.csv",
        CONTROL_COLUMNS,
        [dict(zip(CONTROL_COLUMNS, row, strict=True)) for row in told],
    )


def _readings(order: str, chance: random.Random) -> list[Reading]:
    """A reading of the control before each turn."""
    readings: list[Reading] = []
    for pair, first in enumerate(order):
        for place, side in enumerate(dict.fromkeys((first, *SIDES)), 1):
            after = readings[-1].side if readings else ""
            readings.append(Reading(pair, place, side, after, 0.01 * chance.uniform(0.9, 1.1)))
    return readings


def _make_profile(run: Path) -> None:
    shares = {"input pipeline": 0.25, "forward": 0.5, "backward": 0.25}
    rows = [
        {
            "case": CASES[0].id,
            "phase": phase,
            "share": share,
            "seconds_per_step": share * 1e-3,
            "step_s": 1e-3,
            "rounds": 20,
            "status": "ok",
        }
        for phase, share in shares.items()
    ]
    write_csv(run / "profile.csv", PHASES.columns, rows)
