"""A bisection's decisions: its error is shared out, and each end follows from the trials."""

from __future__ import annotations

import itertools
import math
import random
import shlex
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from bench.evidence.bisect import Linear, bisected, plan_of
from bench.schema.bisect import Finding, Purpose, Trial, What
from bench.schema.duel import Spec
from bench.verdicts.bisect import (
    LOOKS,
    WRONG,
    change_of,
    confirmed,
    confirming_error,
    control_off,
    judged,
    picked,
    step_error,
    usual_steps,
)
from bench.verdicts.bisect_search import Ended, Outcome, Wanted, next_of
from bench.verdicts.bisect_told import see_again

MARGIN = math.log1p(0.01)
QUIET = [0.001 * (-1) ** k for k in range(24)]


def shifted(by: float, blocks: int) -> list[float]:
    return [by + value for value in QUIET[:blocks]]


@pytest.mark.parametrize("commits", [1, 2, 8, 40, 1_000])
def test_all_trials_together_err_in_at_most_one_of_a_hundred(commits: int) -> None:
    """However many steps there are, as where commits are skipped."""
    steps = math.fsum(step_error(number, commits) for number in range(200))
    assert steps + confirming_error() <= WRONG + 1e-12
    assert step_error(0, commits) >= 0.8 * WRONG / usual_steps(commits) - 1e-12
    assert math.fsum(LOOKS.values()) == pytest.approx(1)


def test_each_look_errs_as_seldom_as_it_may() -> None:
    """Of 2,000 steps without a change, and with one of exactly the least size, all are right."""
    chance = np.random.default_rng(3)
    least, error = 0.05, 0.05
    for true, wrong in ((MARGIN, Finding.WORSE), (least, Finding.NOT_WORSE)):
        hits = 0
        for values in chance.normal(true, 0.02, (2_000, 24)).tolist():
            told = (judged(values[:n], What.SPEED, MARGIN, least, error) for n in LOOKS)
            hits += next(filter(None, told)) is wrong
        # The limit is 100; 130 has a probability of less than 0.2% at that rate.
        assert hits <= 130


def test_four_blocks_decide_about_large_changes_alone() -> None:
    """Launches that come in two modes agree by chance, at a distance that is no change."""
    told = 0.001
    assert judged(shifted(0.1, 4), What.SPEED, MARGIN, 0.1, told) is None
    assert judged(shifted(0.5, 4), What.SPEED, MARGIN, 0.5, told) is Finding.WORSE
    assert judged(shifted(0.0, 4), What.SPEED, MARGIN, 0.5, told) is Finding.NOT_WORSE
    # Nearer to no change than to the change: not worse beyond doubt.
    assert judged(shifted(0.2, 4), What.SPEED, MARGIN, 0.5, told) is Finding.NOT_WORSE
    assert confirmed(shifted(0.1, 4), What.SPEED, MARGIN, told) is None
    assert confirmed(shifted(0.5, 4), What.SPEED, MARGIN, told) is Finding.WORSE


def test_a_change_within_a_wide_margin_is_not_worse_after_four_blocks() -> None:
    margin, least = math.log1p(0.5), math.log1p(0.6)
    told = What.SPEED, margin, least, 0.001
    assert judged(shifted(math.log1p(0.3), 4), *told) is Finding.NOT_WORSE
    assert judged(shifted(math.log1p(0.8), 4), *told) is Finding.WORSE


def test_a_change_is_confirmed_once_it_is_known_well_enough() -> None:
    rough = [0.1 + 0.06 * (-1) ** k for k in range(24)]
    seen = change_of(rough[:16], 0.001)
    assert MARGIN < seen.low < 2 / 3 * seen.mean
    assert confirmed(rough[:16], What.SPEED, MARGIN, 0.001) is None
    assert confirmed(rough, What.SPEED, MARGIN, 0.001) is Finding.WORSE
    assert confirmed(shifted(-0.1, 8), What.SPEED, MARGIN, 0.001) is Finding.NOT_WORSE
    noisy = [0.01 + 0.3 * (-1) ** k for k in range(24)]
    assert confirmed(noisy, What.SPEED, MARGIN, 0.001) is Finding.UNDECIDED
    with pytest.raises(ValueError, match="5 blocks: look at 4, 8, 16, 24 only"):
        change_of(rough[:5], 0.001)


def test_a_control_that_differs_is_seen() -> None:
    assert control_off(shifted(0.05, 8), 0.001)
    assert control_off(shifted(-0.05, 8), 0.001)
    assert not control_off(shifted(0.005, 8), 0.001)


def test_a_skipped_commit_is_left_behind() -> None:
    names = [(str(place), 20 - place) for place in range(20)]
    assert [picked(names, skipped) for skipped in range(4)] == ["0", "6", "10", "12"]
    assert picked(names[:1], 9) == "0"


class Scripted:
    """Findings of a history whose cause is known."""

    def __init__(self, commits: int, cause: int) -> None:
        self.plan = plan_of(commits)
        self.history = Linear([1.0 * (n == cause) for n in range(1, commits + 1)])

    def to_the_end(self, change: Callable[[Wanted, Finding], Trial]) -> tuple[Ended, list[Trial]]:
        trials: list[Trial] = []
        while isinstance(found := next_of(self.plan, self.history, trials), Wanted):
            is_worse = self.history.slower(found.against, found.commit) > 0
            trials.append(change(found, Finding.WORSE if is_worse else Finding.NOT_WORSE))
        return found, trials


def trial(wanted: Wanted, finding: Finding, reason: str = "") -> Trial:
    own = wanted.purpose, wanted.against, wanted.commit, wanted.error
    speed = () if finding is Finding.SKIPPED else tuple(shifted(0.5, 4))
    return Trial(*own, finding, reason, speed=speed)


@pytest.mark.parametrize("cause", [1, 2, 17, 39, 40])
def test_a_cause_anywhere_is_found_in_the_usual_number_of_steps(cause: int) -> None:
    end, trials = Scripted(40, cause).to_the_end(trial)
    assert end == Ended(Outcome.NAMED, str(cause))
    assert len(trials) <= 1 + usual_steps(40) + 1
    assert (trials[-1].against, trials[-1].commit) == (str(cause - 1), str(cause))
    pairs = [(one.against, one.commit) for one in trials]
    assert len(set(pairs)) == len(pairs)


def test_of_two_neighbours_the_first_trial_is_the_proof() -> None:
    end, trials = Scripted(1, 1).to_the_end(trial)
    assert end == Ended(Outcome.NAMED, "1")
    assert [one.purpose for one in trials] == [Purpose.CONFIRM]


def test_nothing_is_named_that_its_parent_does_not_prove() -> None:
    """As where a step erred, or where many small changes add up."""

    def unproven(wanted: Wanted, finding: Finding) -> Trial:
        proof = wanted.purpose is Purpose.PROOF
        return trial(wanted, Finding.UNDECIDED if proof else finding)

    end, trials = Scripted(8, 5).to_the_end(unproven)
    assert end.outcome is Outcome.RANGE
    assert end.candidates == tuple(map(str, range(1, 9)))
    assert end.reason.startswith("the steps lead to 5, but against its own parent")
    assert trials[-1].purpose is Purpose.PROOF


def test_an_undecided_step_ends_with_the_range_so_far() -> None:
    def second_open(wanted: Wanted, finding: Finding) -> Trial:
        numbers = next(count)
        return trial(wanted, Finding.UNDECIDED if numbers == 2 else finding)

    count = itertools.count()
    end, trials = Scripted(8, 5).to_the_end(second_open)
    assert end.candidates == ("5", "6", "7", "8")
    assert end.reason == "6 could not be decided in 4 blocks"
    assert len(trials) == 3


@pytest.mark.parametrize("seed", range(20))
def test_skipped_commits_never_hide_the_cause(seed: int) -> None:
    """It is named, or in the range, with all that was skipped beside it and nothing else."""
    chance = random.Random(seed)
    cause, broken = chance.randint(1, 40), {str(n) for n in chance.sample(range(1, 40), 8)}
    known: dict[str, Finding] = {}

    def skipping(wanted: Wanted, finding: Finding) -> Trial:
        if wanted.commit in broken and wanted.purpose is Purpose.STEP:
            finding = Finding.SKIPPED
        known[wanted.commit] = finding
        return trial(wanted, finding, "broken" if finding is Finding.SKIPPED else "")

    end, _ = Scripted(40, cause).to_the_end(skipping)
    if end.outcome is Outcome.NAMED:
        assert end.commit == str(cause)
    else:
        assert str(cause) in end.candidates
        assert set(end.candidates[:-1]) <= broken
        assert known[end.candidates[-1]] is Finding.WORSE


def test_few_simulated_bisections_name_a_wrong_commit() -> None:
    """The decisions as they are, on values with heavy tails; more in results/evidence."""
    chance = np.random.default_rng(11)
    named = 0
    for number in range(60):
        cause = number % 40
        history = Linear([math.log1p(0.1) * (n == cause) for n in range(40)])
        end, _ = bisected(plan_of(40), history, lambda: 0.02 * chance.standard_t(4, 24))
        assert end.commit in ("", str(cause + 1))
        named += end.outcome is Outcome.NAMED
    assert named >= 55


def test_the_command_to_see_it_again_names_everything() -> None:
    plan = plan_of(8)
    side = Spec(checkout="/my repo", revision="0")
    plan = replace(plan, duel=replace(plan.duel, a=side, rows=500, margin=0.02))
    own = ("/env of 4/bin/python", "/env of 5/bin/python")
    told = shlex.split(
        see_again(plan, Trial(Purpose.PROOF, "4", "5", 0.01, Finding.WORSE, "", pythons=own))
    )
    assert told[:3] == ["fmnist-bench", "duel", "--a"]
    assert [Spec.parse(told[place]) for place in (3, 5)] == [
        Spec(python, "/my repo", commit) for python, commit in zip(own, "45", strict=True)
    ]
    proof = Trial(Purpose.PROOF, "4", "5", 0.01, Finding.WORSE)
    lost = shlex.split(
        see_again(replace(plan, what=What.ACCURACY, setup="pip install -e ."), proof)
    )
    assert lost[:9] == [
        *("fmnist-bench", "bisect", "4", "5", "--checkout", "/my repo"),
        *("--what", "accuracy", "--first-parent"),
    ]
    assert lost[9:11] == ["--setup", "pip install -e ."]
    assert lost[11:] == told[6:]
    assert " ".join(told[6:]) == (
        "--models relu_mlp --optimizers adam --loops compiled --devices cpu --batch-sizes 32 "
        "--precisions float32 --backends tensorflow --epochs 5 --seed 42 --rows 500 --margin 0.02"
    )
