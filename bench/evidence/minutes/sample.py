"""Minutes until a change is decided, by drawing duels from recorded blocks of equals.

A duel takes the blocks of one session, in any order and with either side as B; the change is added
to B. So the truth is known, and the noise is this machine's. Its n-th block takes as long as the
session's n-th block did. Beside it stand the rules of other tools, which get the launches of the
same minutes.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from scipy.stats import ttest_ind

from bench.evidence.exits import upper_bound
from bench.evidence.minutes.designs import BEFORE, CHANGES
from bench.schema.sizes import DUEL_GATE, MARGIN
from bench.verdicts.sequential import (
    LAST_LOOK,
    LOOKS,
    SPEED_SHARE,
    Decision,
    Looks,
    even_log,
    look,
)
from fmnist_models.errors import UserError

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Launch:
    """One recorded launch: seconds of the whole of it, and of its rounds after the warm-up."""

    launch_s: float
    rounds_s: tuple[float, ...]

    def slower(self, change: float) -> Launch:
        """The same with rounds that take longer by `change`."""
        rounds = tuple(seconds * (1 + change) for seconds in self.rounds_s)
        return Launch(self.launch_s + change * math.fsum(self.rounds_s), rounds)


@dataclass(frozen=True, slots=True)
class Block:
    """A recorded block of equals: its log ratio, its minutes, and its two launches."""

    log: float
    minutes: float
    launches: tuple[Launch, Launch]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule said: worse, not worse, or neither; and after how many minutes."""

    worse: bool
    passed: bool
    minutes: float


Sessions = Sequence[Sequence[Block]]


def read(file: Path) -> list[dict[str, str]]:
    """The rows of minutes_recorded.csv.

    Raises:
        UserError: the file is missing, or is none.
    """
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}: record duels with --sessions") from error
    if not rows or not {"loop", "block_s", "seconds"} <= rows[0].keys():
        raise UserError(f"{file} is no minutes_recorded.csv: record duels with --sessions")
    return rows


def sessions_of(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int], Sessions]:
    """The blocks of each session, by loop and load, from the rows of minutes_recorded.csv."""
    found: dict[tuple[str, int], dict[int, dict[int, dict[str, Mapping[str, Any]]]]] = {}
    for row in rows:
        sessions = found.setdefault((row["loop"], int(row["load"])), {})
        blocks = sessions.setdefault(int(row["session"]), {})
        # Of a launch that was measured again, the last attempt counts.
        blocks.setdefault(int(row["block"]), {})[row["side"]] = row
    return {
        key: [
            [_block(sides["a"], sides["b"]) for _, sides in sorted(blocks.items())]
            for _, blocks in sorted(sessions.items())
        ]
        for key, sessions in found.items()
    }


def _block(a: Mapping[str, Any], b: Mapping[str, Any]) -> Block:
    first, second = (tuple(map(float, row["seconds"].split())) for row in (a, b))
    launches = Launch(float(a["launch_s"]), first), Launch(float(b["launch_s"]), second)
    return Block(even_log(first, second, a["order"][1:]), float(a["block_s"]) / 60, launches)


def drawn(session: Sequence[Block], change: float, rng: np.random.Generator) -> list[float]:
    """The log ratios of a duel of blocks that are drawn from a session, with the change in B."""
    blocks = [session[number] for number in rng.permutation(len(session))[:LAST_LOOK]]
    signs = rng.choice((-1.0, 1.0), LAST_LOOK)
    return [s * b.log + math.log1p(change) for s, b in zip(signs, blocks, strict=True)]


def duel(blocks: Sequence[Block], values: Sequence[float], looks: Looks) -> tuple[Verdict, int]:
    """How a duel of these blocks ends, and after how many of them.

    Args:
        blocks: those of a session in the order in which they were measured, for their minutes: the
            first ones wait for imports, whatever they find.
        values: log ratios of as many blocks.
        looks: when is looked, and what may be spent.
    """
    margin, gate = math.log1p(MARGIN), math.log1p(DUEL_GATE)
    for number in looks.passing:
        seen = look(values[:number], margin, gate, SPEED_SHARE, looks)
        if seen.decision is not Decision.GO_ON:
            break
    minutes = math.fsum(block.minutes for block in blocks[:number])
    worse, passed = seen.decision is Decision.WORSE, seen.decision is Decision.NOT_WORSE
    return Verdict(worse, passed, minutes), number


def compare_fail(a: Sequence[Launch], b: Sequence[Launch], change: float) -> bool:
    """pytest-benchmark's `--benchmark-compare-fail=mean:5%`: a process of A and, later, one of B.

    The means of all their rounds are compared; there is no test.
    """
    later = b[0].slower(change)
    return fmean(later.rounds_s) > (1 + DUEL_GATE) * fmean(a[0].rounds_s)


def hyperfine(a: Sequence[Launch], b: Sequence[Launch], change: float) -> bool:
    """Hyperfine's `scripts/welch_ttest.py` on whole commands, all of A's before all of B's.

    It calls two times different where p of Welch's two-sided test is below 0.05.
    """
    earlier = [launch.launch_s for launch in a]
    later = [launch.slower(change).launch_s for launch in b]
    found = ttest_ind(later, earlier, equal_var=False)
    return bool(found.pvalue < 0.05 and fmean(later) > fmean(earlier))


DUELS: Mapping[str, Looks] = {"three looks": BEFORE, "duel": LOOKS}
# One after the other, as they are typed; the first takes the minutes of two launches alone.
OTHERS: Mapping[str, Callable[[Sequence[Launch], Sequence[Launch], float], bool]] = {
    "pytest-benchmark": compare_fail,
    "hyperfine": hyperfine,
}


def minute_rows(recorded: Mapping[tuple[str, int], Sessions], draws: int, seed: int) -> list[Row]:
    """One row for each loop, load, change and rule."""
    rows = []
    for (loop, load), sessions in sorted(recorded.items()):
        for change in CHANGES:
            rng = np.random.default_rng([seed, load, len(loop), round(1_000 * change)])
            told: dict[str, list[Verdict]] = {name: [] for name in (*DUELS, *OTHERS)}
            for _ in range(draws):
                session = sessions[int(rng.integers(len(sessions)))]
                values = drawn(session, change, rng)
                for name, looks in DUELS.items():
                    verdict, blocks = duel(session, values, looks)
                    told[name].append(verdict)
                # The last of them is the duel as it is, whose minutes the others get.
                for name, rule in OTHERS.items():
                    a, b = _one_after_the_other(session, blocks, rng)
                    worse = rule(a, b, change)
                    told[name].append(Verdict(worse, not worse, verdict.minutes))
            own = {"loop": loop, "load": load, "change": change}
            rows += [{**own, "rule": name, **_counts(found)} for name, found in told.items()]
    return rows


def _one_after_the_other(
    session: Sequence[Block], blocks: int, rng: np.random.Generator
) -> tuple[list[Launch], list[Launch]]:
    """The launches of so many successive blocks: the earlier half is A's, the later one B's."""
    begins = int(rng.integers(len(session) - blocks + 1))
    several = [launch for block in session[begins : begins + blocks] for launch in block.launches]
    return several[:blocks], several[blocks:]


def _counts(found: Sequence[Verdict]) -> Row:
    minutes = [verdict.minutes for verdict in found]
    worse, passed = (sum(getattr(v, name) for v in found) for name in ("worse", "passed"))
    return {
        "draws": len(found),
        "worse": worse / len(found),
        "worse_upper": upper_bound(worse, len(found)),
        "not_worse": passed / len(found),
        "undecided": 1 - (worse + passed) / len(found),
        "minutes_median": float(np.median(minutes)),
        "minutes_90": float(np.quantile(minutes, 0.9)),
    }
