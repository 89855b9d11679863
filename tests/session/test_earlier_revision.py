"""A real duel between a revision from before there were packages and the suite as it is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from support import ROOT
from support.watching import Watching

from bench.schema.case import Case
from bench.schema.duel import DuelPlan, Spec
from bench.schema.errors import ExitCode
from bench.schema.plan import RunSettings
from bench.session import duel as duelling
from bench.store.run_folder import RunFolder
from bench.verdicts.duel import Standing

# One with a flat `bench`.
EARLIER = "7a77e1f"
CASE = Case("softmax", "sgd", "fit", batch_size=200)


class OneBlock(Watching):
    """Ends the duel, as Ctrl-C does, once it has measured a block."""

    def block_ends(self, standing: Standing, control: float) -> None:
        super().block_ends(standing, control)
        raise KeyboardInterrupt


def has_history() -> bool:
    """Whether this clone holds that revision; a shallow one, or an archive, does not."""
    command = ["git", "-C", str(ROOT), "cat-file", "-e", f"{EARLIER}^{{commit}}"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not has_history(), reason=f"needs a clone that holds revision {EARLIER}")
def test_a_revision_from_before_the_packages_serves_as_a_side(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is started by the same name, speaks the same protocol, and trains the same."""
    monkeypatch.chdir(tmp_path)
    settings = RunSettings(epochs=1, data=str(small_data))
    spec = Spec(checkout=str(ROOT), revision=EARLIER)
    plan = DuelPlan(spec, Spec(), (CASE,), settings, templates=1)
    path, watching = tmp_path / "duel", OneBlock()
    report = duelling.fight(duelling.begin(plan, path), path, watching)
    assert report.exit_code == ExitCode.INTERRUPTED
    (standing,) = report.cases
    assert (standing.failure, len(standing.speed)) == ("", 1)
    assert watching.reasons == []
    told = {side: RunFolder(path / side).launches() for side in "ab"}
    assert {launch.status for side in told.values() for launch in side} == {"ok"}
    accuracies = {side: {launch.test_score for launch in own} for side, own in told.items()}
    assert accuracies["a"] == accuracies["b"]
    kept = json.loads((path / "a" / "environment.json").read_text("utf-8"))
    assert kept["versions"]["tensorflow"]
