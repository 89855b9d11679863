"""Damages files of runs, duels and profiles in seeded ways, and sees what the verbs make of it.

Right is an error of one line that names the file or the folder, or the same figures as before.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import baselines
from bench import duel as duelling
from bench.case import Case
from bench.check import check
from bench.compare import compare, named_runs
from bench.derived import broken_launches
from bench.duel_standing import DuelPlan
from bench.errors import UserError
from bench.evidence.timing import make_run
from bench.filetypes import BLOCKS, PHASES
from bench.htmlreport.records import case_records, round_records
from bench.htmlreport.source import read_profiles, read_sources
from bench.reader import read_table
from bench.record import RunSettings
from bench.runs import MeasuredRun, read_run
from bench.sides import Spec
from bench.sizes import Sizes
from bench.store import RunFolder, write_csv, write_json

CASES = (Case("softmax", "sgd", "fit"), Case("relu_mlp", "adam", "compiled", batch_size=512))
# What stands where a number, a word or a JSON value should be.
CELLS = ("", "abc", "nan", "inf", "-inf", "-1", "0", "7", "1e999", "1,5", "1.234,5", "48,000",
         "0x10", " 1", "1_000", "TRUE", "true", "\N{ARABIC-INDIC DIGIT THREE}", "9" * 5000,
         "1.5", "-0", "None", "x" * 200_000, '"', "1;2", "\x1b[31m", "=1+1")  # fmt: skip
VALUES: tuple[Any, ...] = (None, True, -1, 0, 1.5, 10**30, float("nan"), float("inf"), "", "abc",
                           "x" * 200_000, [], [1], {}, {"a": 1}, [[[]]], "\ud800")  # fmt: skip
WHOLES = ("null", "5", "[1]", '"a"', "{}", "[" * 20_000, '{"a":' * 20_000, "9" * 5000, "NaN",
          '{"version": 99}', '{"cases": [{}]}', "{", "", "\n\n")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trial:
    """One damaged file and what came of it.

    Attributes:
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


def torture(folder: Path, seeds: Sequence[int]) -> list[Trial]:
    """A trial for each seed, below an empty `folder`."""
    runs = [make_run(folder / "base" / f"run{k}", k, CASES, rounds=6) for k in range(3)]
    whole = make_run(folder / "whole", 9, CASES, rounds=6)
    _make_duel(whole)
    _make_profile(whole)
    stored = [read_run(path) for path in runs]
    before = read_run(whole)
    return [_trial(folder, before, stored, seed) for seed in seeds]


def counts(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """A row a file: trials, how many were refused, gave the same figures, and went wrong."""
    found = []
    for file in dict.fromkeys(sorted(trial.file for trial in trials)):
        own = Counter(t.outcome if t.right else "wrong" for t in trials if t.file == file)
        found.append({"file": file, "trials": own.total(), "refused": own["refused"],
                      "same_figures": own["same"], "wrong": own["wrong"]})  # fmt: skip
    return found


def _trial(folder: Path, before: MeasuredRun, stored: Sequence[MeasuredRun], seed: int) -> Trial:
    chance = random.Random(seed)
    run = folder / "damaged"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(before.path, run)
    file = chance.choice(sorted(path for path in run.rglob("*") if path.is_file()))
    how = _damage(file, chance)
    verbs = _VERBS.get(file.name, _OF_A_RUN)
    outcomes = {_outcome(verb, run, before, stored) for verb in verbs}
    wrong = sorted(outcomes - {"refused", "same"})
    outcome = wrong[0] if wrong else "refused" if "refused" in outcomes else "same"
    return Trial(seed, file.name, how, outcome)


def _outcome(
    verb: Callable[[Path, Sequence[MeasuredRun]], MeasuredRun | None],
    run: Path,
    before: MeasuredRun,
    stored: Sequence[MeasuredRun],
) -> str:
    name = verb.__name__.strip("_")
    try:
        found = verb(run, stored)
    except UserError as error:
        said = str(error)
        named = run.name in said or "--" in said
        one_line = said.isprintable() and len(said) < 2000
        return "refused" if named and one_line else f"{name} says {said[:200]!a}"
    except Exception as error:  # noqa: BLE001 - which one it is, is what this asks
        return f"{name} raised {type(error).__name__}: {ascii(error)[:200]}"
    if found is not None and _figures(found) != _figures(before):
        return f"{name} took other figures"
    return "same"


def _figures(run: MeasuredRun) -> str:
    """What is compared, to 12 digits: sums over launches in another order differ by the last."""
    rows = [
        (case, name, f"{value:.12g}" if isinstance(value, float) else str(value))
        for case, row in sorted(run.rows.items())
        for name, value in row.items()
        if name not in ("reason", "warnings")
    ]
    logs = [(case, [f"{log:.12g}" for log in sorted(own)]) for case, own in run.logs.items()]
    return repr((rows, sorted(logs)))


def _compare(run: Path, stored: Sequence[MeasuredRun]) -> MeasuredRun:
    found = named_runs([stored[0].path, run])
    compare(found)
    return list(found.values())[1]


def _check(run: Path, stored: Sequence[MeasuredRun]) -> MeasuredRun:
    now = read_run(run)
    check(stored, [now], Sizes.of_check())
    return now


def _report(run: Path, _: Sequence[MeasuredRun]) -> MeasuredRun:
    sources = read_sources([run])
    read_profiles([run])
    case_records(sources)
    round_records(sources)
    return sources[0].run


def _baseline(run: Path, _: Sequence[MeasuredRun]) -> None:
    base = run.parent / "kept"
    shutil.rmtree(base, ignore_errors=True)
    baselines.add(base, [run])
    baselines.describe(base)
    baselines.remove(base, [run.name])


def _resume(run: Path, _: Sequence[MeasuredRun]) -> None:
    folder, plan = RunFolder.resume(run)
    broken_launches(plan, folder.launches(), folder.rounds())
    folder.ceilings()


def _duel(run: Path, _: Sequence[MeasuredRun]) -> None:
    duelling.resume(run / "duel")
    read_table(run / "duel" / "blocks.csv", BLOCKS, grows=True)


_OF_A_RUN: tuple[Callable[..., MeasuredRun | None], ...] = (
    _compare,
    _check,
    _report,
    _baseline,
    # Last, for it cuts a half line away.
    _resume,
)
_VERBS: Mapping[str, tuple[Callable[..., MeasuredRun | None], ...]] = {
    "duel.json": (_duel,),
    "blocks.csv": (_duel,),
    "profile.csv": (_report,),
}


def _damage(file: Path, chance: random.Random) -> str:
    """Damage a file in one of many ways; returns which."""
    own = _cells if file.suffix == ".csv" else _json
    way = chance.choice((own, own, own, _bytes, _lines, _replaced))
    return way(file, chance)


_Rows = list[list[str]]
_COLUMNS: Mapping[str, Callable[[_Rows, int], _Rows]] = {
    "column emptied": lambda rows, k: [rows[0], *([*r[:k], "", *r[k + 1 :]] for r in rows[1:])],
    "column lost": lambda rows, k: [r[:k] + r[k + 1 :] for r in rows],
    "column doubled": lambda rows, k: [[*r, r[k]] for r in rows],
    "columns turned": lambda rows, _: [r[::-1] for r in rows],
    "empty column and row": lambda rows, _: [*([*r, ""] for r in rows), [""] * (len(rows[0]) + 1)],
    "capitals": lambda rows, _: [rows[0], *([cell.upper() for cell in r] for r in rows[1:])],
    "decimal commas": lambda rows, _: [
        rows[0],
        *([cell.replace(".", ",") for cell in r] for r in rows[1:]),
    ],
}


def _cells(file: Path, chance: random.Random) -> str:
    """Of a table: cells, columns, separators."""
    rows = list(csv.reader(io.StringIO(file.read_text("utf-8"), newline="")))
    row, column = chance.randrange(1, len(rows)), chance.randrange(len(rows[0]))
    separator, end = ",", "\n"
    how = chance.choice((*["cell"] * 4, "separator", "end", *_COLUMNS))
    if how == "cell":
        value = chance.choice(CELLS)
        how = f"{rows[0][column]} {value[:12]!a}"
        rows[row][column] = value
    elif how == "separator":
        separator = chance.choice(";\t|")
    elif how == "end":
        end = chance.choice(("\r\n", "\r"))
    else:
        rows = _COLUMNS[how](rows, column)
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=end).writerows(rows)
    file.write_bytes(text.getvalue().encode())
    return how


def _json(file: Path, chance: random.Random) -> str:
    """Of JSON, or of one line of it: a value anywhere, or the whole."""
    lines = file.read_text("utf-8").splitlines() if file.suffix == ".jsonl" else []
    place = chance.randrange(len(lines)) if lines else 0
    text = lines[place] if lines else file.read_text("utf-8")
    if chance.random() < 0.2:
        how = text = chance.choice(WHOLES)
    else:
        tree = json.loads(text)
        how = _spoil(tree, chance)
        text = json.dumps(tree, indent=None if lines else 2)
    if lines:
        lines[place] = text
        text = "\n".join(lines) + "\n"
    file.write_text(text, "utf-8")
    return how[:40]


def _spoil(tree: Any, chance: random.Random) -> str:
    """Replace, remove or add a value somewhere in a tree of JSON values."""
    node, path = tree, ""
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = chance.choice(keys)
        path += f".{key}"
        if not (isinstance(node[key], dict | list) and node[key]) or chance.random() < 0.3:
            break
        node = node[key]
    what = chance.random()
    if what < 0.15:
        del node[key]
        return f"{path} removed"
    if what < 0.2 and isinstance(node, dict):
        node[f"later_{key}"] = chance.choice(VALUES)
        return f"{path} beside a later field"
    node[key] = value = chance.choice(VALUES)
    return f"{path} {ascii(value)[:12]}"


def _bytes(file: Path, chance: random.Random) -> str:
    """Of any file: its bytes and its encoding."""
    content = bytearray(file.read_bytes())
    place = chance.randrange(len(content))
    how = chance.choice(("cut", "flipped", "NUL", "latin1", "BOM", "UTF-16", "twice", "noise"))
    if how == "cut":
        del content[place:]
    elif how == "flipped":
        content[place] ^= 1 << chance.randrange(8)
    elif how in ("NUL", "latin1", "noise"):
        odd = {"NUL": b"\0", "latin1": b"\xb5", "noise": chance.randbytes(20)}[how]
        content[place:place] = odd
    elif how == "BOM":
        content[:0] = codecs.BOM_UTF8
    elif how == "UTF-16":
        content[:] = content.decode("utf-8").encode("utf-16")
    else:
        content *= 2
    file.write_bytes(content)
    return how


def _lines(file: Path, chance: random.Random) -> str:
    """Of any file: a line lost, doubled, moved or emptied."""
    lines = file.read_bytes().splitlines(keepends=True)
    place = chance.randrange(len(lines))
    how = chance.choice(("line lost", "line doubled", "line moved", "line emptied", "last lines"))
    line = lines.pop(place)
    if how == "line doubled":
        lines[place:place] = [line, line]
    elif how == "line moved":
        lines.insert(chance.randrange(len(lines) + 1), line)
    elif how == "line emptied":
        lines.insert(place, b"\n")
    elif how == "last lines":
        lines[max(1, place) :] = []
    file.write_bytes(b"".join(lines))
    return how


def _replaced(file: Path, chance: random.Random) -> str:
    """Something else in the place of the file."""
    file.unlink()
    how = chance.choice(("gone", "folder", "link to itself", "dangling link", "pipe", "empty"))
    if how == "folder":
        file.mkdir()
    elif how == "link to itself":
        file.symlink_to(file)
    elif how == "dangling link":
        file.symlink_to("nowhere")
    elif how == "pipe" and hasattr(os, "mkfifo"):
        os.mkfifo(file)
    elif how == "empty":
        file.touch()
    return how


def _make_duel(run: Path) -> None:
    """A duel's files in a folder of the run, where `check --confirm` leaves them."""
    (run / "duel").mkdir()
    plan = DuelPlan(Spec(), Spec(variables=(("A", "1"),)), CASES[1:], RunSettings(epochs=2))
    write_json(run / "duel" / "duel.json", plan.to_json())
    rows = [
        {"case": CASES[1].id, "block": k, "first": "ab"[k % 2], "template_a": k % 3,
         "template_b": 0, "order": "ab"[k % 2] + "abba", "control_a_s": 0.01,
         "control_b_s": 0.0101, "control_log_ratio": 0.01}
        for k in range(4)
    ]  # fmt: skip
    write_csv(run / "duel" / "blocks.csv", BLOCKS.columns, rows)


def _make_profile(run: Path) -> None:
    shares = {"input pipeline": 0.25, "forward": 0.5, "backward": 0.25}
    rows = [
        {"case": CASES[0].id, "phase": phase, "share": share, "seconds_per_step": share * 1e-3,
         "step_s": 1e-3, "rounds": 20, "status": "ok"}
        for phase, share in shares.items()
    ]  # fmt: skip
    write_csv(run / "profile.csv", PHASES.columns, rows)
