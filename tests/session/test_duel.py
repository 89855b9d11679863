"""Duels of scripted sides: decisions, order, resuming, the control, and `check --confirm`."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support import FAKE_WORKER, TypeIn
from support.watching import Watching

from bench.launch import channel
from bench.launch.launcher import Launcher
from bench.machine import devices, hardware, lock, placement
from bench.machine.nvml import Inventory
from bench.reports.terminal.duel import DuelLines
from bench.schema.case import Case, logistic_case
from bench.schema.draws import BlockDraw, new_entropy
from bench.schema.duel import TEMPLATES, Block, DuelPlan, Spec
from bench.schema.errors import ExitCode
from bench.schema.launch import LaunchRecord
from bench.schema.plan import RunSettings
from bench.session import attempts, control, under_way
from bench.session import blocks as measuring
from bench.session import duel as duelling
from bench.session.sides import Side
from bench.store.run_folder import RunFolder, read_plan
from bench.verdicts.check import Verdict
from bench.verdicts.duel import DuelReport, Standing, control_differs
from bench.verdicts.sequential import FIRST_LOOK, PASSING, SPENDING, Decision, look
from fmnist_models import dataset
from fmnist_models.errors import UserError

CASE = Case("relu_mlp", "adam", "compiled", batch_size=512)
OTHER = Case("softmax", "adam", "compiled", batch_size=512)
MACHINE = {"cpu": {"model": "EPYC"}, "versions": {"tensorflow": "2.21.0"}}


MakePlan = Callable[..., DuelPlan]
Fight = Callable[..., DuelReport]


@pytest.fixture(autouse=True)
def scripted_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine, a clock and workers that do what the test says."""
    draw = np.random.default_rng(1)
    images = draw.integers(0, 256, (400, 28, 28), dtype=np.uint8)
    labels = np.arange(400, dtype=np.uint8) % 10
    dataset.write(tmp_path / "data", images, labels, images, labels)
    for module in (devices, duelling, under_way):
        monkeypatch.setattr(module, "inventory", lambda: Inventory(problem="a test"))
    monkeypatch.setattr(hardware, "cpu_model", lambda: "Test CPU")
    monkeypatch.setattr(measuring, "control_probe", lambda: lambda passes: 0.01)
    # Else a test would fail as often as its duel errs.
    chance = random.Random(7)
    monkeypatch.setattr(duelling, "new_entropy", lambda: chance.randbytes(16).hex())
    monkeypatch.setattr(Side, "launcher", lambda side, data, _: Launcher(FAKE_WORKER, data))
    monkeypatch.setattr(Side, "describe", lambda side, label, digest, packages: dict(MACHINE))


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets how far the launches of both sides scatter, as a standard deviation of logs."""

    def set_noise(
        noise: float, launches: int = 400, rounds: Callable[..., Any] = lambda level: [level] * 2
    ) -> None:
        chance = random.Random(5)
        script = tmp_path / "script.json"
        levels = [math.exp(chance.gauss(-1, noise)) for _ in range(launches)]
        script.write_text(json.dumps([{"rounds": rounds(level)} for level in levels]))
        script.with_suffix(".count").unlink(missing_ok=True)
        monkeypatch.setenv("FAKE_WORKER_SCRIPT", str(script))

    set_noise(0.005)
    return set_noise


@pytest.fixture
def plan(tmp_path: Path, scripted: Callable[..., None]) -> MakePlan:
    """A plan whose side B has the given variables."""

    def make(*cases: Case, **changes: Any) -> DuelPlan:
        variables = tuple((name, str(value)) for name, value in changes.pop("b", {}).items())
        settings = RunSettings(epochs=2, data=str(tmp_path / "data"))
        return DuelPlan(Spec(), Spec(variables=variables), cases or (CASE,), settings, **changes)

    return make


@pytest.fixture
def fight(tmp_path: Path) -> Fight:
    """Begins a duel and fights it to its end."""

    def go(plan: DuelPlan, progress: Watching | None = None, name: str = "duel") -> DuelReport:
        path = tmp_path / name
        return duelling.fight(duelling.begin(plan, path), path, progress or Watching())

    return go


def written(path: Path) -> list[dict[str, str]]:
    with (path / "blocks.csv").open() as lines:
        return list(csv.DictReader(lines))


def test_a_quiet_duel_of_equals_ends_at_the_first_look(
    plan: MakePlan, fight: Fight, tmp_path: Path
) -> None:
    report = fight(plan())
    (standing,) = report.cases
    assert report.exit_code == ExitCode.PASSED
    assert standing.verdict is Verdict.PASSED
    assert len(standing.speed) == len(standing.score) == FIRST_LOOK
    for side in "ab":
        launches = (tmp_path / "duel" / side / "launches.jsonl").read_text().splitlines()
        assert len(launches) == FIRST_LOOK
    verdict = json.loads((tmp_path / "duel" / "verdict.json").read_text())
    assert verdict["exit_code"] == 0
    assert verdict["cases"][0]["speed"] == standing.speed


def test_a_side_records_the_variables_that_its_launches_got(
    plan: MakePlan,
    fight: Fight,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a run does: what the case sets is overruled, and the screen says so."""
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("XLA_FLAGS", "--mine")
    fight(plan(replace(CASE, threads=2), b={"XLA_FLAGS": "--yours"}))
    told = {side: RunFolder(tmp_path / "duel" / side).environment() or {} for side in "ab"}
    flags = {side: record["variables"]["XLA_FLAGS"] for side, record in told.items()}
    assert flags == {"a": "--mine", "b": "--yours"}
    for record in told.values():
        assert record["overruled"] == {"KERAS_BACKEND": "jax", "OMP_NUM_THREADS": "4"}
        assert "OMP_NUM_THREADS" not in record["variables"]
    screen = io.StringIO()
    lines = DuelLines(Console(file=screen, width=300))
    lines.duel_begins(duelling.resume(tmp_path / "duel"), tmp_path / "duel")
    assert screen.getvalue().count("overruled, so that each case is what its row says") == 1


def test_a_side_whose_environment_was_lost_does_not_go_on(
    plan: MakePlan, fight: Fight, tmp_path: Path
) -> None:
    fight(plan())
    (tmp_path / "duel" / "b" / "environment.json").unlink()
    again = duelling.resume(tmp_path / "duel")
    with pytest.raises(UserError, match=r"environment\.json is missing, which says on what its 4"):
        duelling.fight(again, tmp_path / "duel", Watching())


def test_ten_percent_slower_is_found(plan: MakePlan, fight: Fight) -> None:
    report = fight(plan(b={"FAKE_SLOWER": 1.10}))
    (standing,) = report.cases
    assert report.exit_code == ExitCode.REGRESSION
    assert standing.speed_look is not None
    assert standing.speed_look.decision is Decision.WORSE
    assert math.exp(standing.speed_look.mean) == pytest.approx(1.10, abs=0.01)
    # Fewer blocks raise no alarm.
    assert standing.speed_look.blocks == min(SPENDING)


def test_as_fast_and_wrong_is_found(plan: MakePlan, fight: Fight) -> None:
    report = fight(plan(b={"FAKE_DROP": 0.03}))
    (standing,) = report.cases
    assert report.exit_code == ExitCode.REGRESSION
    assert standing.speed_look is not None
    assert standing.speed_look.decision is Decision.NOT_WORSE
    assert standing.score_look is not None
    assert standing.score_look.mean == pytest.approx(0.03)


def test_too_noisy_to_tell(plan: MakePlan, fight: Fight, scripted: Callable[..., None]) -> None:
    scripted(0.5)
    report = fight(plan())
    (standing,) = report.cases
    assert report.exit_code == ExitCode.INCONCLUSIVE
    assert (standing.verdict, len(standing.speed)) == (Verdict.BLIND, 24)


def follows(path: Path) -> bool:
    """Whether the order and the templates of every block are those that the recorded entropy
    gives."""
    plan = duelling.resume(path)
    for row in written(path):
        draw = plan.draws.block(CASE, int(row["block"]))
        expected = "".join(next(draw.firsts) for _ in row["order"])
        served = [str(draw.templates[side]) for side in "ab"]
        if [row["order"], row["template_a"], row["template_b"]] != [expected, *served]:
            return False
    return True


def test_the_order_is_drawn_anew_for_each_duel_and_recorded(
    plan: MakePlan,
    fight: Fight,
    tmp_path: Path,
    scripted: Callable[..., None],
) -> None:
    orders = []
    for name in ("duel", "again"):
        scripted(0.5)
        fight(plan(), name=name)
        orders.append([row["order"] for row in written(tmp_path / name)])
        assert follows(tmp_path / name)
    assert orders[0] != orders[1]


def test_no_two_duels_share_their_entropy() -> None:
    first, second = new_entropy(), new_entropy()
    assert first != second
    assert len(bytes.fromhex(first)) == 16


def test_a_duel_that_goes_on_keeps_its_draws(
    plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "duel"
    stopped = Watching()
    monkeypatch.setattr(stopped, "block_ends", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    begun = duelling.begin(plan(), path)
    assert duelling.fight(begun, path, stopped).exit_code == ExitCode.INTERRUPTED
    assert len(written(path)) == 1
    assert duelling.resume(path) == begun
    duelling.fight(duelling.resume(path), path, Watching())
    assert len(written(path)) == FIRST_LOOK
    assert follows(path)


def test_a_duel_of_an_earlier_revision_goes_on_with_the_order_of_its_seed(
    plan: MakePlan, tmp_path: Path
) -> None:
    """Its duel.json knows no entropy, and its blocks.csv no order."""
    path = tmp_path / "duel"
    duelling.begin(plan(budget_s=1e-9), path)
    told = json.loads((path / "duel.json").read_text())
    told = {k: v for k, v in told.items() if k not in ("entropy", "templates")} | {"version": 2}
    (path / "duel.json").write_text(json.dumps(told))
    earlier = replace(duelling.resume(path), budget_s=None)
    with pytest.raises(ZeroDivisionError):
        duelling.fight(earlier, path, OutOfOrder(after=3))
    earlier_columns = [name for name in measuring.COLUMNS if name not in measuring.BLOCKS.later]
    rows = [{name: row[name] for name in earlier_columns} for row in written(path)]
    (path / "control.csv").unlink()
    with (path / "blocks.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, earlier_columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    report = duelling.fight(earlier, path, Watching())
    assert report.exit_code == ExitCode.PASSED
    found = written(path)
    assert [row["order"] for row in found[:3]] == [""] * 3
    for number, row in enumerate(found):
        chance = random.Random(f"42 {number}")
        expected = chance.choice("ab")
        assert row["first"] == expected
        expected += "".join(chance.sample("ab", 2)[0] for _ in row["order"][1:])
        assert row["order"] in ("", expected)
    assert {row["template_a"] for row in found} == {"", "0"}


class OutOfOrder(Watching):
    """Raises what nobody expects after so many blocks."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def block_ends(self, standing: Standing, control: float) -> None:
        super().block_ends(standing, control)
        if len(self.blocks) == self.after:
            raise ZeroDivisionError


def test_each_side_has_templates_of_its_own_and_each_of_them_serves(
    plan: MakePlan,
    fight: Fight,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = []

    class Counted(channel.LocalChannel):
        def __init__(self, *args: Any) -> None:
            started.append(args)
            super().__init__(*args)

    monkeypatch.setattr(channel, "LocalChannel", Counted)
    fight(plan(b={"FAKE_SLOWER": 1.10}))
    assert len(started) == 2 * TEMPLATES
    rows = written(tmp_path / "duel")
    for side in "ab":
        served = [row[f"template_{side}"] for row in rows]
        for begin in range(0, 6, TEMPLATES):
            assert sorted(served[begin : begin + TEMPLATES]) == list(map(str, range(TEMPLATES)))


def test_fresh_launches_have_no_template(plan: MakePlan, fight: Fight, tmp_path: Path) -> None:
    wanted = plan()
    fight(replace(wanted, settings=replace(wanted.settings, fork=False)))
    assert {(row["template_a"], row["template_b"]) for row in written(tmp_path / "duel")} == {
        ("", "")
    }


def test_a_duel_that_is_refused_because_another_run_measures_leaves_no_folder(
    plan: MakePlan, tmp_path: Path
) -> None:
    path = tmp_path / "duel"
    with lock.the_machine(print, wait=False), pytest.raises(UserError, match="another run"):
        duelling.fight(plan(), path, Watching(), new=True)
    assert not path.exists()
    assert duelling.fight(plan(), path, Watching(), new=True, wait=True).exit_code == 0


def test_both_sides_of_a_block_train_with_the_same_seed(
    plan: MakePlan, fight: Fight, tmp_path: Path
) -> None:
    fight(plan())
    seeds = [
        [json.loads(line)["seed"] for line in file.read_text().splitlines()]
        for file in (tmp_path / "duel").glob("?/launches.jsonl")
    ]
    assert seeds[0] == seeds[1] == list(range(42, 42 + FIRST_LOOK))


def test_a_backend_is_a_side_whose_cases_begin_with_the_same_weights(
    plan: MakePlan, fight: Fight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "why_missing", lambda _: None)
    given = plan()
    report = fight(replace(given, a=Spec(), b=Spec.parse("backend=jax")))
    assert [standing.case.backend for standing in report.cases] == ["tensorflow"]
    for side, backend in (("a", "tensorflow"), ("b", "jax")):
        run = read_plan(tmp_path / "duel" / side)
        assert [case.backend for case in run.cases] == [backend]
        assert run.same_start
        rows = RunFolder(tmp_path / "duel" / side).path / "results.csv"
        assert f",{backend},cpu," in rows.read_text("utf-8")
    screen = io.StringIO()
    lines = DuelLines(Console(file=screen, width=300))
    lines.duel_begins(duelling.resume(tmp_path / "duel"), tmp_path / "duel")
    assert "backend=jax" in screen.getvalue()
    fight(given, name="usual")
    assert not read_plan(tmp_path / "usual" / "b").same_start


def test_a_side_with_a_backend_takes_cases_of_one_backend(
    plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its cases would be one, and each would read the launches of the other."""
    monkeypatch.setattr(placement, "why_missing", lambda _: None)
    given = replace(plan(CASE, replace(CASE, backend="jax")), b=Spec.parse("backend=torch"))
    told = r"^--backends tensorflow,jax: side B trains each of these cases with torch: leave "
    with pytest.raises(UserError, match=told):
        duelling.begin(given, tmp_path / "duel")
    assert not (tmp_path / "duel").exists()


def test_the_interpreter_of_a_side_may_have_a_framework_that_this_one_has_not(
    plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = {"jax": "jax is not here"}
    monkeypatch.setattr(placement, "why_missing", absent.get)
    given = plan()
    there = replace(given, b=Spec.parse(f"python={sys.executable} backend=jax"))
    assert duelling.begin(there, tmp_path / "duel").b.backend == "jax"
    with pytest.raises(UserError, match="-jax cannot duel: jax is not here"):
        duelling.begin(replace(given, b=Spec.parse("backend=jax")), tmp_path / "here")


def test_sides_that_began_with_other_weights_decide_nothing(
    plan: MakePlan, fight: Fight, tmp_path: Path
) -> None:
    fight(plan())
    path = tmp_path / "duel"
    (path / "verdict.json").unlink()
    for side in "ab":
        file = path / side / "launches.jsonl"
        records = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        told = [json.dumps(record | {"initial_weights": side * 64}) for record in records]
        file.write_text("\n".join([*told, ""]), "utf-8")
    report = duelling.fight(duelling.resume(path), path, Watching())
    assert report.cases[0].failure == "B began with other weights than A"


def test_rounds_take_turns_and_slowness_of_the_moment_hits_both(
    plan: MakePlan,
    fight: Fight,
    scripted: Callable[..., None],
    tmp_path: Path,
) -> None:
    """Launches that differ by a third, where rounds that follow one another do not."""
    scripted(0.005, rounds=lambda level: [level, 1.5 * level, level])
    report = fight(plan())
    (standing,) = report.cases
    assert standing.speed_look is not None
    assert standing.speed_look.decision is Decision.NOT_WORSE
    for side in "ab":
        lines = (tmp_path / "duel" / side / "rounds.csv").read_text().splitlines()
        assert len(lines) == 1 + 3 * FIRST_LOOK


def test_a_side_of_an_earlier_revision_knows_no_turns(plan: MakePlan, fight: Fight) -> None:
    report = fight(plan(b={"FAKE_SLOWER": 1.10, "FAKE_NO_PAUSES": 1}))
    assert report.exit_code == ExitCode.REGRESSION
    (standing,) = report.cases
    assert standing.speed_look is not None
    assert standing.speed_look.mean == pytest.approx(math.log(1.10), abs=0.01)


def test_a_case_that_is_decided_stops_and_the_other_goes_on(
    plan: MakePlan, fight: Fight, scripted: Callable[..., None]
) -> None:
    scripted(0.02)
    watching = Watching()
    report = fight(plan(CASE, OTHER), watching)
    blocks = {standing.case: len(standing.speed) for standing in report.cases}
    assert set(blocks.values()) <= {*PASSING}
    assert len(watching.blocks) == sum(blocks.values())
    # Of two cases each has half of the error.
    decided = report.cases[0].speed_look
    assert decided is not None
    assert decided.level < 0.003 * 0.9


def test_the_budget_ends_it_and_it_resumes_to_the_same_end(
    plan: MakePlan, fight: Fight, tmp_path: Path
) -> None:
    path = tmp_path / "short"
    short = duelling.begin(plan(budget_s=1e-9), path)
    report = duelling.fight(short, path, Watching())
    assert report.exit_code == ExitCode.INCONCLUSIVE
    assert "budget" in report.stopped
    assert not (path / "blocks.csv").exists()
    stored = duelling.resume(path)
    assert stored == short
    whole = duelling.fight(plan(), path, Watching())
    assert whole.exit_code == ExitCode.PASSED
    assert whole.stopped == ""


def test_ctrl_c_between_two_sides_measures_the_block_again(
    plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "duel"
    wanted = duelling.begin(plan(), path)
    keep = attempts.RunUnderWay.keep
    calls = []

    def third_block_is_cut(self: attempts.RunUnderWay, record: LaunchRecord) -> None:
        calls.append(record)
        if len(calls) == 6:
            raise KeyboardInterrupt
        keep(self, record)

    monkeypatch.setattr(attempts.RunUnderWay, "keep", third_block_is_cut)
    report = duelling.fight(wanted, path, Watching())
    assert report.exit_code == ExitCode.INTERRUPTED
    assert len(written(path)) == 2
    monkeypatch.setattr(attempts.RunUnderWay, "keep", keep)
    # Half a line, as a kill leaves it.
    with (path / "blocks.csv").open("a") as out:
        out.write("relu")
    report = duelling.fight(duelling.resume(path), path, Watching())
    assert report.exit_code == ExitCode.PASSED
    assert [row["block"] for row in written(path)] == [str(k) for k in range(FIRST_LOOK)]
    tried = {
        side: [
            json.loads(line)["attempt"]
            for line in (path / side / "launches.jsonl").read_text().splitlines()
        ]
        for side in "ab"
    }
    # One side was kept before the cut; of the other the rounds were.
    again = [(1, 1, 1, 2, 1), (1, 1, 2, 1)]
    assert sorted(map(tuple, tried.values())) == again


def test_a_block_whose_rounds_are_lost_is_measured_again(
    plan: MakePlan, fight: Fight, tmp_path: Path
) -> None:
    report = fight(plan())
    path = tmp_path / "duel"
    (path / "verdict.json").unlink()
    rounds = (path / "a" / "rounds.csv").read_text().splitlines()
    kept = [line for line in rounds if not line.startswith(f"{CASE.id},3,")]
    (path / "a" / "rounds.csv").write_text("\n".join(kept) + "\n")
    watching = Watching()
    again = duelling.fight(duelling.resume(path), path, watching)
    assert again.exit_code == ExitCode.PASSED
    assert len((path / "a" / "rounds.csv").read_text().splitlines()) == len(rounds)
    assert [k != 3 for k in range(FIRST_LOOK)] == [
        x == y for x, y in zip(report.cases[0].speed, again.cases[0].speed, strict=True)
    ]


def test_a_duel_killed_before_a_sides_environment_was_written_goes_on(
    plan: MakePlan, tmp_path: Path
) -> None:
    path = tmp_path / "duel"
    duelling.fight(duelling.begin(plan(budget_s=1e-9), path), path, Watching())
    (path / "b" / "environment.json").unlink()
    assert duelling.fight(plan(), path, Watching()).exit_code == ExitCode.PASSED
    assert json.loads((path / "b" / "environment.json").read_text())["cpu"] == MACHINE["cpu"]


def test_a_control_that_differs_leaves_no_verdict(
    plan: MakePlan,
    fight: Fight,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends = iter(range(10**6))
    monkeypatch.setattr(
        measuring, "control_probe", lambda: lambda passes: 0.01 * (1 + 1e-4 * (next(ends) % 3))
    )
    assert fight(plan(b={"FAKE_SLOWER": 1.10})).exit_code == ExitCode.REGRESSION
    measured = measuring.Blocks.measured

    def slow_before_b(self: measuring.Blocks, case: Case, number: int, draw: BlockDraw) -> Block:
        block = measured(self, case, number, draw)
        return replace(block, control=block.control + 0.05)

    monkeypatch.setattr(measuring.Blocks, "measured", slow_before_b)
    report = fight(plan(b={"FAKE_SLOWER": 1.10}), name="unlike")
    assert report.control_differs
    assert report.exit_code == ExitCode.INCONCLUSIVE


def test_the_control_is_looked_at_from_both_sides() -> None:
    values = [0.05, 0.051, 0.049, 0.05, 0.052, 0.05, 0.048, 0.05]
    assert control_differs(values)
    assert control_differs([-value for value in values])
    assert not control_differs([value - 0.05 for value in values])


def test_the_real_control_takes_time() -> None:
    assert control.control_probe()(2) > 0


def test_a_launch_that_fails_ends_its_case(plan: MakePlan, fight: Fight) -> None:
    report = fight(plan(CASE, b={"FAKE_FAILURE": "out of memory"}))
    assert report.exit_code == ExitCode.WRONG_USE_OR_FAILED_CASE
    assert report.cases[0].failure == "side B failed: out of memory"


def test_another_machine_does_not_go_on(
    plan: MakePlan,
    fight: Fight,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fight(plan())
    monkeypatch.setattr(Side, "describe", lambda *_: {"cpu": {"model": "Xeon"}})
    with pytest.raises(UserError, match="began with the CPU 'EPYC', now it is 'Xeon'"):
        duelling.fight(plan(), tmp_path / "duel", Watching())


def test_other_files_do_not_go_on(
    plan: MakePlan,
    fight: Fight,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def described(suite: str) -> Callable[..., Any]:
        return lambda *_: {**MACHINE, "sources": {"suite": suite, "models": None, "notes": []}}

    fight(plan())
    # An earlier version wrote nothing of the files: it goes on.
    monkeypatch.setattr(Side, "describe", described("1"))
    duelling.fight(plan(), tmp_path / "duel", Watching())
    fight(plan(), name="new")
    monkeypatch.setattr(Side, "describe", described("2"))
    with pytest.raises(UserError, match="Python files of the suite have changed since side A"):
        duelling.fight(plan(), tmp_path / "new", Watching())


def test_fewer_rows_are_written_once(plan: MakePlan, fight: Fight, tmp_path: Path) -> None:
    report = fight(plan(rows=100))
    assert len(dataset.load(tmp_path / "duel" / "data").train_labels) == 100
    assert report.exit_code == ExitCode.PASSED


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"rows": 99}, "--rows 99: must be between 100 and 400"),
        ({"cases": (logistic_case(),)}, "leave sklearn out"),
        ({"cases": (Case("relu_mlp", "adam", "fit", "gpu"),)}, "cannot duel: no gpu here"),
    ],
)
def test_what_cannot_duel(
    plan: MakePlan, tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    cases = changes.pop("cases", ())
    with pytest.raises(UserError, match=line):
        duelling.begin(plan(*cases, **changes), tmp_path / "duel")
    assert not (tmp_path / "duel").exists()


def test_a_folder_that_holds_a_duel(plan: MakePlan, tmp_path: Path) -> None:
    duelling.begin(plan(), tmp_path / "duel")
    with pytest.raises(UserError, match="already holds a duel"):
        duelling.begin(plan(), tmp_path / "duel")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}'])
def test_a_plan_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "duel.json").write_text(text)
    with pytest.raises(UserError, match="take it from a copy"):
        duelling.resume(tmp_path)


GOLDEN = """\
A: here
B: FAKE_SLOWER=1.1
1 case, 2 epochs; looks after 4, 6, 8, 12, 16, 24 blocks; at most about TIME; in FOLDER
block 1/24: B over A RATIO, control 1.000
block 2/24: B over A RATIO (RATIO to RATIO), control 1.000
"""


def told_at_the_start(
    plan: DuelPlan,
    folder: Path,
    a: dict[str, Any],
    b: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> list[str]:
    for side, sources in (("a", a), ("b", b)):
        (folder / side).mkdir(parents=True, exist_ok=True)
        (folder / side / "environment.json").write_text(json.dumps({"sources": sources}))
    DuelLines(Console(width=200)).duel_begins(plan, folder)
    return capsys.readouterr().out.splitlines()


def test_what_each_side_runs_is_shown_and_equals_are_called_so(
    plan: MakePlan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    revisions = replace(plan(), a=Spec(checkout="/r", revision="1" * 40), b=Spec(checkout="/r"))
    old = {"suite": "0123456789", "models": "aaaaaaaaaaaa", "notes": ["without the submodule x"]}
    new = {**old, "models": "bbbbbbbbbbbb", "notes": []}
    lines = told_at_the_start(revisions, tmp_path, old, new, capsys)
    assert lines[:3] == [
        "A: checkout=/r@111111111111 (suite 01234567, models aaaaaaaa)",
        "  without the submodule x",
        "B: checkout=/r (suite 01234567, models bbbbbbbb)",
    ]
    same = "A and B run the same code: no Python file differs between them"
    assert same not in lines
    assert same in told_at_the_start(revisions, tmp_path, new, new, capsys)
    # Sides that name the same checkout are meant to run the same.
    assert same not in told_at_the_start(plan(), tmp_path, new, new, capsys)


def test_a_side_whose_variable_is_overruled_leaves_no_folder(
    plan: MakePlan, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="side B: KERAS_BACKEND=jax: a launch of relu_mlp-adam"):
        duelling.begin(plan(b={"KERAS_BACKEND": "jax"}), tmp_path / "duel")
    assert not (tmp_path / "duel").exists()


def test_what_is_typed_and_seen(
    type_in: TypeIn, tmp_path: Path, scripted: Callable[..., None]
) -> None:
    words = ("--a", "here", "--b", "FAKE_SLOWER=1.1", "--data", tmp_path / "data", "--epochs", "1")
    code, out, err = type_in("duel", *words, "--output", tmp_path / "duel")
    assert (code, err) == (1, "")
    lines = out.replace(str(tmp_path / "duel"), "FOLDER").splitlines()
    assert lines[:2] == GOLDEN.splitlines()[:2]
    assert lines[2].startswith(
        "1 case, 1 epoch; looks after 4, 6, 8, 12, 16, 24 blocks; at most about"
    )
    assert lines[3].startswith("block 1/24: B over A 1.")
    assert "  look at 8: B is worse (p " in out
    assert "B is worse (exit 1); the gate is 5.0%" in out
    assert lines[-1] == "FOLDER/verdict.json"


@pytest.fixture
def ended(type_in: TypeIn, tmp_path: Path, scripted: Callable[..., None]) -> tuple[Path | str, ...]:
    """The words of a duel that has ended, in the folder `duel`."""
    words = ("--a", "here", "--b", "FAKE_SLOWER=1.1", "--data", tmp_path / "data")
    type_in("duel", *words, "--output", tmp_path / "duel")
    return words


def test_a_duel_that_has_ended_says_so_and_shows_its_verdict(
    type_in: TypeIn, tmp_path: Path, ended: tuple[Path | str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Side, "launcher", None)
    code, out, err = type_in("duel", "--resume", tmp_path / "duel", *ended, "--budget", "5")
    assert (code, err) == (1, "")
    out = out.replace("\n", " ")
    assert "has ended; its result:" in out
    assert "B is worse (exit 1); the gate is 5.0%" in out
    assert " 8 1." in " ".join(out.split())


def test_a_verdict_that_cannot_be_read_is_reached_again(
    type_in: TypeIn, tmp_path: Path, ended: tuple[Path | str, ...]
) -> None:
    (tmp_path / "duel" / "verdict.json").write_text("[]")
    code, out, _ = type_in("duel", "--resume", tmp_path / "duel")
    assert (code, "has ended" in out, "block 8/24" in out) == (1, False, True)


@pytest.mark.parametrize(
    "words",
    [
        ("--a", "FAKE_SLOWER=2"),
        ("--b", "here"),
        ("--gate", "0.5"),
        ("--rows", "200"),
        ("--epochs", "3"),
        ("--seed", "7"),
        ("--data", "elsewhere"),
        ("--timeout", "5"),
        ("--fresh",),
        ("--output", "elsewhere"),
        ("--models", "softmax"),
        ("--batch-sizes", "32,512"),
        ("--threads", "2"),
        ("--precisions", "mixed_bfloat16"),
        ("--replicas", "2"),
        ("--scaling", "weak"),
    ],
)
def test_what_resuming_does_not_change_is_refused_by_name(
    type_in: TypeIn, tmp_path: Path, plan: MakePlan, words: tuple[str, ...]
) -> None:
    duelling.begin(plan(b={"FAKE_SLOWER": 1.1}), tmp_path / "duel")
    code, _, err = type_in("duel", "--resume", tmp_path / "duel", *words)
    assert code == 2
    assert err.startswith(f"fmnist-bench: error: {words[0]} ")
    assert "only --budget may change" in err


@pytest.mark.parametrize(
    ("words", "same"),
    [
        (("--replicas", "2"), True),
        (("--replicas", "1,2"), False),
        (("--replicas", "all"), False),
        (("--processes", "each"), True),
        (("--processes", "one"), False),
        (("--scaling", "weak"), True),
        (("--scaling", "strong"), False),
        # Of each replica, as `--scaling weak` has it.
        (("--batch-sizes", "256"), True),
        (("--batch-sizes", "512"), False),
    ],
)
def test_a_duel_of_several_replicas_is_resumed_by_the_words_that_began_it(
    type_in: TypeIn,
    tmp_path: Path,
    plan: MakePlan,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    same: bool,
) -> None:
    monkeypatch.setattr(hardware, "cpu_affinity", lambda: (0, 1, 2))
    begun = plan(replace(CASE, replicas=2, processes=2, backend="jax"))
    weak = replace(begun, settings=replace(begun.settings, scaling="weak"), budget_s=1e-9)
    duelling.begin(weak, tmp_path / "duel")
    code, _, err = type_in("duel", "--resume", tmp_path / "duel", *words)
    assert ("only --budget may change" in err) is not same
    assert code == (3 if same else 2)


def test_the_budget_may_change_on_resuming(
    type_in: TypeIn, tmp_path: Path, scripted: Callable[..., None]
) -> None:
    words = ("--a", "here", "--b", "here", "--data", tmp_path / "data")
    folder = tmp_path / "duel"
    assert type_in("duel", *words, "--output", folder, "--budget", "1e-9")[0] == 3
    code, out, _ = type_in("duel", "--resume", folder)
    assert (code, "the budget of 1e-09 s was spent" in out) == (3, True)
    assert type_in("duel", "--resume", folder, "--budget", "600", "--gate", "0.05")[0] == 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--b", "here"), "--a is missing: write here"),
        (("--a", "here"), "--b is missing: write here"),
        (("--a", "here", "--b", "now"), "side 'now': 'now' is no setting"),
        (("--a", "here", "--b", "here", "--gate", "0.01"), "--gate 0.01: write a share above"),
        (("--a", "here", "--b", "here", "--budget", "nan"), "--budget nan: must be above 0"),
        (("--a", "here", "--b", "here", "--loops", "jump"), "unknown loop 'jump'"),
        (("--resume", "/no/such"), "/no/such holds no duel to resume"),
    ],
)
def test_a_users_mistakes(type_in: TypeIn, words: tuple[str, ...], line: str) -> None:
    code, _, err = type_in("duel", *words)
    assert code == 2
    assert err.startswith(f"fmnist-bench: error: {line}")
    assert err.count("\n") == 1


def test_a_duel_goes_on_with_the_margin_that_tolerates_nothing(
    plan: MakePlan, tmp_path: Path
) -> None:
    duelling.begin(plan(margin=0.0), tmp_path / "duel")
    assert duelling.resume(tmp_path / "duel").margin == 0.0


@pytest.mark.parametrize("name", ["a", "data", "verdict.json"])
def test_a_duel_begins_in_no_folder_that_holds_what_it_would_take_for_its_own(
    plan: MakePlan, tmp_path: Path, name: str
) -> None:
    (tmp_path / "duel" / name).mkdir(parents=True)
    with pytest.raises(UserError, match=f"{name} is there already and belongs to no duel"):
        duelling.begin(plan(), tmp_path / "duel")


def test_a_side_does_not_go_on_with_another_model(
    plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where both sides are of this environment, the files that the launches ran tell."""
    path = tmp_path / "duel"
    duelling.fight(duelling.begin(plan(budget_s=1e-9), path), path, Watching())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("as it is now")
    file = path / "a" / "environment.json"
    told = json.loads(file.read_text("utf-8"))
    told["code"] = {"c" * 64: {"models": {"mine.py": "0" * 64}}}
    file.write_text(json.dumps(told))
    with pytest.raises(UserError, match=r"another mine\.py"):
        duelling.fight(duelling.resume(path), path, Watching())


def test_an_accuracy_that_one_side_lacks_is_a_failure(
    plan: MakePlan, fight: Fight, tmp_path: Path
) -> None:
    fight(plan())
    path = tmp_path / "duel"
    (path / "verdict.json").unlink()
    file = path / "b" / "rounds.csv"
    header, *lines = file.read_text("utf-8").splitlines()
    place = header.split(",").index("val_score")
    cells = lines[1].split(",")
    cells[place] = ""
    file.write_text("\n".join([header, lines[0], ",".join(cells), *lines[2:], ""]), "utf-8")
    report = duelling.fight(duelling.resume(path), path, Watching())
    assert report.exit_code == ExitCode.WRONG_USE_OR_FAILED_CASE
    assert report.cases[0].failure == "the validation accuracy of one side is missing"


def test_a_control_that_differs_leaves_no_verdict_whatever_the_sides_did(
    plan: MakePlan,
) -> None:
    failed, worse = Standing(CASE, failure="out of memory"), Standing(CASE)
    worse.speed_look = look([0.5] * 8, 0.01, 0.05, 1)
    for differs, code in ((True, ExitCode.INCONCLUSIVE), (False, ExitCode.REGRESSION)):
        report = DuelReport(plan(), (failed, worse), (), differs)
        assert report.exit_code == code
