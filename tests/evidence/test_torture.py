"""The short form of `python -m bench.evidence torture`: kills, places taken away, wrong words."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from pathlib import Path

import pytest

from bench.cli.options import HELP
from bench.evidence.torture import inputs, kills, places
from bench.evidence.torture.inputs import Ground, _verbs
from bench.evidence.torture.tally import Row, counts, made_ground

SEED = 7
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills forks, mounts, uses /dev")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """Runs by the scripted worker, and a small data set."""
    return made_ground(tmp_path_factory.mktemp("ground"))


def test_after_a_kill_nothing_is_lost_or_left_over(ground: Ground, tmp_path: Path) -> None:
    torturer = kills.Torturer(tmp_path, ground.data)
    # Each verb, target and signal at least twice.
    chosen = itertools.islice(kills.drawn(36, 0, SEED), 0, None, 4)
    trials = [torturer.tried(kill) for kill in chosen]
    assert [trial for trial in trials if trial.problems] == []
    assert sum(trial.hit != "none" for trial in trials) >= 5


def test_what_is_taken_from_a_run_or_a_check_loses_nothing(ground: Ground, tmp_path: Path) -> None:
    asked = places.commands(ground.baseline, ground.candidate, ground.data)
    chosen = [command for command in asked if command.verb in ("run", "check")]
    thief = places.Thief(tmp_path, chosen, SEED)
    assert [loss for loss in thief.trials(short=True) if loss.problems] == []


def test_every_verb_has_a_command_line_that_it_accepts(ground: Ground) -> None:
    for verb, command in _verbs():
        words = list(ground.right(verb))[len(verb.split()) :]
        assert command.make_context(verb, words, **HELP).args == []


def test_no_wrong_word_is_taken(ground: Ground) -> None:
    # `describe` imports the framework for each of its answers.
    answers = [
        inputs.answered(words, wrong, ground.folder)
        for words, wrong in inputs.mistakes(ground)
        if words[0] != "describe"
    ]
    assert [answer for answer in answers if answer.problems] == []
    assert len(answers) > 700


def test_a_trial_that_went_wrong_is_counted(ground: Ground, tmp_path: Path) -> None:
    broken = places.Command("run", ("run", "--models", "softmax", "--loops", "nothing"))
    thief = places.Thief(tmp_path, [broken], SEED)
    found = list(thief.trials(short=True))
    rows = [Row(loss.taken, loss.verb, tuple(loss.problems)) for loss in found]
    assert all(row.problems for row in rows if row.kind == "all letters but ASCII")
    assert sum(row["wrong"] for row in counts(rows)) > 0
    assert dataclasses.asdict(rows[0])["of"] == "run"
