"""Makes tables of the recorded live duels, and applies the suite's decisions to them.

recorded.csv has one row per launch with its seconds; the other tables need nothing else.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import numpy as np
from scipy.special import stdtr

from bench.analysis.stats import launch_log, student_interval
from bench.evidence.exits import upper_bound
from bench.evidence.live import TURNS, duels
from bench.evidence.simulate import decided
from bench.schema.draws import SIDES
from bench.schema.errors import ExitCode
from bench.schema.launch import LaunchRecord, Status, StoredRound
from bench.schema.sizes import DEFAULT_GATE, MARGIN
from bench.session.duel import resume
from bench.store.run_folder import RunFolder
from bench.verdicts.check import SPEED_LEVEL
from bench.verdicts.regression import estimate, stored_test
from bench.verdicts.sequential import FIRST_LOOK, LAST_LOOK, block_log
from fmnist_models.errors import UserError

Row = dict[str, Any]
RECORDED = ("session", "time_utc", "case", "slower", "block", "side", "val_accuracy", "seconds")
SCALED_DUELS = (0.0, 0.02, 0.05, 0.10)
SCALED_CHECKS = (0.0, 0.05, 0.10, 0.20, 0.50)
# (stored sessions, sessions of the candidate); nine and one are all sessions.
SIDES_OF_CHECKS = ((3, 1), (6, 1), (9, 1), (3, 3), (6, 3))


def collect(work: Path) -> tuple[list[Row], list[Row]]:
    """The rows of recorded.csv and of live.csv, from the duels that `live` ran in `work`.

    Raises:
        UserError: a duel is missing or unfinished.
    """
    turn_s = float(json.loads((work / "turn_s.json").read_text("utf-8")))
    launches: list[Row] = []
    rows: list[Row] = []
    for duel in sorted(duels(), key=lambda duel: (duel.session, duel.loop, duel.slower)):
        folder = work / duel.name
        if not (folder / "verdict.json").exists():
            raise UserError(f"{folder} holds no verdict: run python -m bench.evidence live")
        own = [
            {"session": duel.session, "slower": duel.slower, **row}
            for side in SIDES
            for row in _launches(folder / side, side)
        ]
        launches += own
        turns = int(dict(resume(folder).b.variables).get(TURNS, 0))
        verdict = json.loads((folder / "verdict.json").read_text("utf-8"))
        rows.append(
            {
                "session": duel.session,
                "time_utc": own[0]["time_utc"],
                "loop": duel.loop,
                "slower": duel.slower,
                **duel_row(folder, verdict, turns * turn_s),
            }
        )
    return launches, rows


def _launches(folder: Path, side: str) -> Iterator[Row]:
    run = RunFolder(folder)
    started = (run.environment() or {}).get("time_utc", "")
    for record, rounds in _measured(run):
        accuracies = [s.round.val_score for s in rounds if s.round.val_score is not None]
        yield {
            "time_utc": started,
            "case": record.case,
            "block": record.launch,
            "side": side,
            "val_accuracy": accuracies[-1],
            "seconds": " ".join(f"{s.round.seconds:.6f}" for s in rounds),
        }


def _measured(run: RunFolder) -> Iterator[tuple[LaunchRecord, list[StoredRound]]]:
    """The launches that ended ok, with their rounds."""
    rounds = run.rounds()
    for record in run.launches():
        if record.status is Status.OK:
            key = (record.launch, record.attempt)
            yield record, [s for s in rounds if (s.launch, s.attempt) == key]


def duel_row(folder: Path, verdict: Mapping[str, Any], burned_s: float) -> Row:
    """What a duel of one case found, beside its truth.

    Args:
        folder: the duel's.
        verdict: the content of its verdict.json.
        burned_s: seconds that were put into a step of B.
    """
    (case,) = verdict["cases"]
    logs = case["speed"]
    interval = student_interval(logs)
    low, high = (None, None) if interval is None else map(math.exp, interval)
    measured = {side: list(_measured(RunFolder(folder / side))) for side in SIDES}
    step_s = median(
        s.round.seconds / s.round.updates for _, rounds in measured["a"] for s in rounds
    )
    look = case["speed_look"] or {}
    smallest = look.get("smallest")
    every = (record for side in SIDES for record in RunFolder(folder / side).launches())
    return {
        "gate": verdict["gate"],
        "blocks": len(logs),
        "burned_s": burned_s,
        "step_s": step_s,
        "truth": burned_s / step_s,
        "ratio": math.exp(fmean(logs)),
        "ratio_low": low,
        "ratio_high": high,
        "smallest": None if smallest is None else math.expm1(smallest),
        **{name: look.get(name) for name in ("p", "level", "sign_flip_p")},
        "p_equal": two_sided_p(logs[:FIRST_LOOK]) if look else None,
        "verdict": case["verdict"],
        "exit_code": verdict["exit_code"],
        "launches_s": math.fsum(record.total_s or 0.0 for record in every),
    }


def two_sided_p(values: Sequence[float]) -> float:
    """The two-sided p-value of Student's t against a mean of 0."""
    n = len(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(n)
    return 2 * float(stdtr(n - 1, -abs(fmean(values)) / error))


def read(file: Path) -> list[Row]:
    """The rows of recorded.csv.

    Raises:
        UserError: the file is missing, or is no recorded.csv.
    """
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        return [
            row
            | {
                "session": int(row["session"]),
                "slower": float(row["slower"]),
                "block": int(row["block"]),
                "seconds": [float(word) for word in row["seconds"].split()],
            }
            for row in rows
        ]
    except (OSError, KeyError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read: {error}; write it with python -m bench.evidence live"
        ) from error


def verdicts(rows: Iterable[Row], trials: int, seed: int) -> list[Row]:
    """The decisions of `duel` and `check` on recorded launches of equals.

    They are taken as recorded, and with longer seconds of one side. A duel draws 24 of a case's
    blocks, and draws at random for each which side is A. A check takes every choice of sessions
    for the candidate and for the stored runs (`SIDES_OF_CHECKS`). All its cases are tested
    together, and one at a time is made slower. The gate is that slow-down, or the default where
    nothing is slower.
    """
    equals = [row for row in rows if row["slower"] == 0]
    rng = np.random.default_rng(seed)
    return [*_duels(equals, trials, rng), *_checks(equals)]


def blocks_of(rows: Iterable[Row]) -> dict[str, list[float]]:
    """The log ratio of each recorded block, by case."""
    seconds: dict[tuple[str, int, int], dict[str, list[float]]] = {}
    for row in rows:
        key = (row["case"], row["session"], row["block"])
        seconds.setdefault(key, {})[row["side"]] = row["seconds"]
    found: dict[str, list[float]] = {}
    for (case, _, _), sides in seconds.items():
        if len(sides) == len(SIDES):
            found.setdefault(case, []).append(block_log(*(sides[side] for side in SIDES)))
    return found


def _duels(rows: Iterable[Row], trials: int, rng: np.random.Generator) -> Iterator[Row]:
    for case, logs in blocks_of(rows).items():
        pool = np.array(logs)
        chosen = rng.permuted(np.tile(np.arange(len(pool)), (trials, 1)), axis=1)[:, :LAST_LOOK]
        values = pool[chosen] * rng.choice((-1.0, 1.0), size=chosen.shape)
        own = {"test": "duel", "case": case, "recorded": len(pool)}
        own |= {"stored_runs": None, "candidate_runs": None}
        own["noise"] = stdev(logs)
        for slower in SCALED_DUELS:
            codes = decided(values + math.log1p(slower), 1)
            found = int((codes == ExitCode.REGRESSION).sum())
            passed = int((codes == ExitCode.PASSED).sum())
            yield (
                own
                | _rate(slower, found, trials)
                | {"able": None, "passed": passed, "median_smallest": None}
            )


def _checks(rows: Sequence[Row]) -> Iterator[Row]:
    cases = sorted({row["case"] for row in rows})
    sessions = sorted({row["session"] for row in rows})
    runs = np.array(
        [
            [
                fmean(
                    launch_log([1] * len(row["seconds"]), row["seconds"])
                    for row in rows
                    if (row["case"], row["session"]) == (case, session)
                )
                for case in cases
            ]
            for session in sessions
        ]
    )
    margin = math.log1p(MARGIN)
    for stored, own in SIDES_OF_CHECKS:
        ways = list(_ways(len(sessions), stored, own))
        found = estimate(*(runs[[way[side] for way in ways]] for side in (0, 1)))
        for number, case in enumerate(cases):
            named = {"test": "check", "case": case, "recorded": len(sessions)}
            named |= {"stored_runs": stored, "candidate_runs": own}
            named["noise"] = stdev(runs[:, number].tolist())
            for slower in SCALED_CHECKS:
                change = found.change.copy()
                change[:, number] += math.log1p(slower)
                test = stored_test(replace(found, change=change), margin, SPEED_LEVEL)
                rejected = test.rejected[:, number]
                able = test.smallest[:, number] <= math.log1p(slower or DEFAULT_GATE)
                counted = _rate(slower, int(rejected.sum()), len(ways))
                if stored + own < len(sessions):
                    # The choices share sessions, so they are not independent, and have no bound.
                    counted["rate_upper"] = None
                middle = math.expm1(float(np.median(test.smallest[:, number])))
                yield (
                    named
                    | counted
                    | {
                        "able": int(able.sum()),
                        "passed": int((able & ~rejected).sum()),
                        "median_smallest": middle,
                    }
                )


def _ways(sessions: int, stored: int, own: int) -> Iterator[tuple[list[int], list[int]]]:
    """Every choice of (stored sessions, other sessions for the candidate)."""
    for candidate in combinations(range(sessions), own):
        others = [session for session in range(sessions) if session not in candidate]
        for chosen in combinations(others, stored):
            yield list(chosen), list(candidate)


def _rate(slower: float, found: int, trials: int) -> Row:
    return {
        "slower": slower,
        "trials": trials,
        "found": found,
        "rate": found / trials,
        "rate_upper": upper_bound(found, trials),
    }
