"""Two launches take turns, and a block that was disturbed is measured again, whole."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.launch.stepwise import Turns
from bench.schema.case import Case
from bench.schema.draws import BlockDraw, EvenDraws
from bench.schema.launch import Better, LaunchRecord, Round, Status
from bench.schema.noise import Noise
from bench.schema.plan import RunSettings
from bench.session import blocks as measuring
from bench.session.blocks import Blocks
from bench.session.control import readings_of
from bench.session.duel_side import DuelSide
from bench.store.filetypes import BLOCKS, CONTROL
from bench.store.reader import read_table
from bench.verdicts.sequential import block_log, even_log
from fmnist_models.errors import UserError

CASE = Case("relu_mlp", "adam", "compiled", batch_size=512)
ON_GPU = Case("relu_mlp", "adam", "compiled", "gpu", batch_size=512)
BUSY = Noise(wall_s=5.0, other_work_share=0.9)


MakeBlocks = Callable[..., Blocks]
Diary = list[Any]


class ScriptedSide(DuelSide):
    """A run under way whose launches take as long, and are as disturbed, as it is told."""

    def __init__(
        self,
        name: str,
        diary: Diary,
        seconds: Sequence[float] = (1.0, 2.0, 3.0),
        noise: Sequence[Noise] = (),
        status: Status = Status.OK,
        score: float | None = 0.9,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        self.score, self.record = score, record or {}
        self.name, self.diary, self.seconds, self.status = name, diary, seconds, status
        self.noise = list(noise)
        self.records: list[LaunchRecord] = []
        self.templates: list[int] = []
        self.closed = 0

    def forks(self, case: Case) -> bool:
        return case.device == "cpu"

    def get_ready(self, case: Case, launch: int, template: int) -> None:
        pass

    def attempt(
        self, case: Case, launch: int, *, pauses: bool = False, template: int = 0
    ) -> Turns[LaunchRecord]:
        self.templates.append(template)
        try:
            self.diary.append((self.name, "warms up"))
            for number in range(1, len(self.seconds) + 1):
                if pauses:
                    yield
                self.diary.append((self.name, number))
            noise = self.noise.pop(0) if self.noise else Noise()
            told = LaunchRecord(case.id, launch, 1, 42, self.status, "a reason", noise=noise)
            return replace(told, **self.record)
        finally:
            self.closed += 1

    def keep(self, record: LaunchRecord) -> None:
        self.records.append(record)

    def measured(self, case: Case, launch: int) -> tuple[LaunchRecord | None, list[Round]]:
        rounds = [
            Round(number, 400, 4, seconds, 0.0, val_score=self.score)
            for number, seconds in enumerate(self.seconds, 1)
        ]
        return (self.records[-1] if self.records else None), rounds


def drawn(number: int) -> BlockDraw:
    return EvenDraws("test", 3).block(CASE, number)


@pytest.fixture
def diary() -> Diary:
    return []


@pytest.fixture
def blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, diary: Diary) -> MakeBlocks:
    """Blocks of the two sides that are given, and of a control that takes ever longer."""
    clock = iter(range(1, 10**6))
    monkeypatch.setattr(measuring, "control_probe", lambda: lambda passes: passes * next(clock))

    def make(a: ScriptedSide | None = None, b: ScriptedSide | None = None, **more: Any) -> Blocks:
        sides = {"a": a or ScriptedSide("a", diary), "b": b or ScriptedSide("b", diary)}
        return Blocks(
            tmp_path, sides, RunSettings(epochs=2), lambda case, why: diary.append(why), **more
        )

    return make


def test_both_warm_up_and_then_a_round_of_each(blocks: MakeBlocks, diary: Diary) -> None:
    blocks().measured(CASE, 0, drawn(1))
    assert {who for who, _ in diary[:2]} == {"a", "b"}
    assert [what for _, what in diary] == ["warms up", "warms up", 1, 1, 2, 2, 3, 3]
    for pair in range(4):
        assert {who for who, _ in diary[2 * pair : 2 * pair + 2]} == {"a", "b"}


def test_the_order_of_each_pair_is_random(blocks: MakeBlocks, diary: Diary) -> None:
    many = blocks()
    for number in range(200):
        many.measured(CASE, number, drawn(number))
    for first in range(0, 8, 2):
        of_a = sum(diary[8 * number + first][0] == "a" for number in range(200))
        assert 70 < of_a < 130


def test_each_side_is_first_in_one_of_every_two_pairs(blocks: MakeBlocks, diary: Diary) -> None:
    blocks().measured(CASE, 0, drawn(0))
    firsts = [diary[place][0] for place in range(0, 8, 2)]
    assert sorted(firsts[:2]) == sorted(firsts[2:]) == ["a", "b"]


def test_what_the_place_in_a_pair_adds_is_no_difference_of_the_sides() -> None:
    """Whatever the order, and however uneven: the second of each pair takes 1.5 times as long."""
    for firsts in ("ababab", "aaaaab", "bbabbbbbab"):
        a = [1.0 if first == "a" else 1.5 for first in firsts]
        b = [1.5 if first == "a" else 1.0 for first in firsts]
        assert even_log(a, b, firsts) == pytest.approx(0.0)
        slower = [1.1 * seconds for seconds in b]
        assert even_log(a, slower, firsts) == pytest.approx(math.log(1.1))
    # One median over all pairs, of which B is first in five of eight.
    assert block_log(a, b) == pytest.approx(-math.log(1.5))


def test_the_control_is_even_and_leaves_the_warm_up_out(
    blocks: MakeBlocks, diary: Diary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe takes twice as long before the first of a pair, and ages before a warm-up."""
    seconds = tuple(range(1, 12))
    a, b = (ScriptedSide(side, diary, seconds=seconds) for side in "ab")
    taken = itertools.count()
    probe = lambda passes: [2.0, 1.0][k % 2] if (k := next(taken)) > 1 else 100.0  # noqa: E731
    monkeypatch.setattr(measuring, "control_probe", lambda: probe)
    many = Blocks(tmp_path, {"a": a, "b": b}, RunSettings(epochs=2))
    for number in range(4):
        taken = itertools.count()
        assert many.measured(CASE, number, drawn(number)).control == pytest.approx(0.0)
    readings = read_table(tmp_path / "control.csv", CONTROL)[0]
    assert len(readings) == 4 * 2 * 12
    assert {row["after"] for row in readings if row["pair"] == 0} == {"", "a", "b"}
    assert {row["seconds"] for row in readings if row["pair"] == 0} == {100.0}
    assert all(row["seconds"] == 3 - row["place"] for row in readings if row["pair"])


def test_a_blocks_csv_of_an_earlier_revision_gets_the_columns_of_this_one(
    blocks: MakeBlocks, tmp_path: Path
) -> None:
    (tmp_path / "blocks.csv").write_text(
        "case,block,first,control_a_s,control_b_s,control_log_ratio\n"
        f"{CASE.id},0,b,0.5,0.25,-0.5\n{CASE.id},1,a,0.5"
    )
    many = blocks()
    many.measured(CASE, 1, drawn(1))
    first, second = read_table(tmp_path / "blocks.csv", BLOCKS)[0]
    assert (first["first"], first["order"], first["template_a"]) == ("b", "", None)
    assert (second["block"], len(second["order"])) == (1, 4)


def test_on_a_gpu_one_launch_follows_the_other(blocks: MakeBlocks, diary: Diary) -> None:
    blocks().measured(ON_GPU, 0, drawn(1))
    assert [what for _, what in diary] == ["warms up", 1, 2, 3, "warms up", 1, 2, 3]


def test_turns_can_be_left_out_to_see_what_they_are_worth(blocks: MakeBlocks, diary: Diary) -> None:
    blocks(turns=False).measured(CASE, 0, drawn(1))
    assert [what for _, what in diary] == ["warms up", 1, 2, 3, "warms up", 1, 2, 3]


def test_its_value_is_the_median_over_neighbours(blocks: MakeBlocks, diary: Diary) -> None:
    b = ScriptedSide("b", diary, seconds=(1.1, 2.2, 30.0))
    block = blocks(b=b).measured(CASE, 0, drawn(1))
    assert block.speed == pytest.approx(math.log(1.1))
    assert block.scores is not None
    assert block.scores[0] == block.scores[1]


def test_the_scores_of_both_sides_come_with_their_name(blocks: MakeBlocks, diary: Diary) -> None:
    a, b = (ScriptedSide(side, diary, score=score) for side, score in (("a", 3.0), ("b", 4.0)))
    for side in (a, b):
        side.record = {"score": "mae", "better": Better.MIN}
    block = blocks(a, b).measured(CASE, 0, drawn(1))
    assert (block.scores, block.name, block.better) == ((3.0, 4.0), "mae", "min")


@pytest.mark.parametrize(
    ("record", "score", "said"),
    [
        ({"data_digest": "y"}, 0.9, "B trained on other data than A"),
        ({"model_digest": "n"}, 0.9, "B trained another model than A"),
        ({"model_digest": "unknown"}, 0.9, ""),
        ({"data_digest": ""}, 0.9, ""),
        ({}, math.nan, "the validation accuracy of side B is nan"),
        ({}, None, "the validation accuracy of one side is missing"),
    ],
)
def test_sides_that_did_other_work_give_no_result(
    blocks: MakeBlocks, diary: Diary, record: dict[str, str], score: float | None, said: str
) -> None:
    known = {"data_digest": "x", "model_digest": "m"}
    a = ScriptedSide("a", diary, record=known)
    b = ScriptedSide("b", diary, score=score, record=known | record)
    assert blocks(a, b).measured(CASE, 0, drawn(1)).failure == said


def test_a_side_b_that_must_do_the_candidates_work_is_held_to_it(
    blocks: MakeBlocks, diary: Diary
) -> None:
    made = blocks(other_work=lambda _, b: f"B is not {b[0].case}")
    assert made.measured(CASE, 0, drawn(1)).failure == f"B is not {CASE.id}"


def test_what_one_has_beyond_the_other_goes_on_alone(blocks: MakeBlocks, diary: Diary) -> None:
    b = ScriptedSide("b", diary, seconds=(1.0, 2.0, 3.0, 100.0, 100.0))
    assert blocks(b=b).measured(CASE, 0, drawn(1)).speed == 0.0
    assert diary[-2:] == [("b", 4), ("b", 5)]


def test_a_disturbed_block_is_measured_again_on_both_sides(
    blocks: MakeBlocks, diary: Diary
) -> None:
    a = ScriptedSide("a", diary, noise=[BUSY])
    b = ScriptedSide("b", diary)
    block = blocks(a, b).measured(CASE, 0, drawn(1))
    assert not block.failure
    for side in (a, b):
        assert [r.status for r in side.records] == [Status.INVALID, Status.OK]
        assert side.records[0].reason.startswith("disturbed: other processes took 90%")
    assert side.records[0].reason in diary


def test_a_machine_that_is_always_busy_is_measured_as_it_is(
    blocks: MakeBlocks, diary: Diary
) -> None:
    a = ScriptedSide("a", diary, noise=[BUSY] * 9)
    b = ScriptedSide("b", diary)
    many = blocks(a, b)
    many.measured(CASE, 0, drawn(1))
    assert [r.status for r in a.records] == [Status.INVALID, Status.INVALID, Status.OK]
    many.measured(CASE, 1, drawn(1))
    assert len(a.records) == 4


def test_a_failed_launch_is_no_block(blocks: MakeBlocks, diary: Diary, tmp_path: Path) -> None:
    b = ScriptedSide("b", diary, status=Status.KILLED)
    block = blocks(b=b).measured(CASE, 0, drawn(1))
    assert block.failure == "side B killed: a reason"
    assert not (tmp_path / "blocks.csv").exists()


def test_other_work_on_one_side_is_no_block(
    blocks: MakeBlocks, diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = ScriptedSide("b", diary)
    whole = b.measured

    def fewer(case: Case, launch: int) -> tuple[LaunchRecord | None, list[Round]]:
        record, rounds = whole(case, launch)
        return record, [replace(r, samples=399) for r in rounds]

    monkeypatch.setattr(b, "measured", fewer)
    block = blocks(b=b).measured(CASE, 0, drawn(1))
    assert block.failure == ("A trained [(400, 4)] samples and updates a round, B [(399, 4)]")


def test_blocks_on_disk_are_not_measured_again(
    blocks: MakeBlocks, diary: Diary, tmp_path: Path
) -> None:
    a, b = (ScriptedSide(side, diary) for side in "ab")
    first = blocks(a, b).measured(CASE, 0, drawn(1))
    with (tmp_path / "blocks.csv").open(newline="") as lines:
        (row,) = csv.DictReader(lines)
    assert float(row["control_log_ratio"]) == first.control
    assert row["first"] == diary[0][0]
    length = len(diary)
    again = blocks(a, b)
    assert again.holds(CASE, 0)
    assert again.measured(CASE, 0, drawn(1)) == first
    assert len(diary) == length


def changed(file: Path, line: int, column: str, value: str) -> None:
    rows = list(csv.reader(file.read_text().splitlines()))
    rows[line][rows[0].index(column)] = value
    file.write_text("\n".join(",".join(row) for row in rows) + "\n")


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("blocks.csv", "control_log_ratio", "0.5"),
        ("blocks.csv", "control_a_s", "7"),
        ("blocks.csv", "order", "aaaa"),
        ("blocks.csv", "order", ""),
        ("control.csv", "seconds", "1e3"),
        ("control.csv", "side", "b"),
        ("control.csv", "block", "5"),
    ],
)
def test_a_control_that_does_not_follow_from_its_readings_is_refused(
    blocks: MakeBlocks, tmp_path: Path, name: str, column: str, value: str
) -> None:
    blocks().measured(CASE, 0, drawn(0))
    blocks()
    # A reading that counts, before a turn of A.
    rows = read_table(tmp_path / "control.csv", CONTROL)[0]
    line = next(k for k, row in enumerate(rows, 1) if row["pair"] and row["side"] == "a")
    changed(tmp_path / name, 1 if name == "blocks.csv" else line, column, value)
    with pytest.raises(UserError, match=r"block 0: its .* of its readings|not all there"):
        blocks()


def test_a_block_without_its_readings_is_refused_and_can_be_measured_again(
    blocks: MakeBlocks, tmp_path: Path
) -> None:
    blocks().measured(CASE, 0, drawn(0))
    (tmp_path / "control.csv").unlink()
    with pytest.raises(UserError, match="block 0: its readings of the control are not all there"):
        blocks()
    (tmp_path / "blocks.csv").write_text(",".join(BLOCKS.columns) + "\n")
    assert not blocks().holds(CASE, 0)


def test_readings_of_a_block_that_was_killed_do_not_count(
    blocks: MakeBlocks, diary: Diary, tmp_path: Path
) -> None:
    sides = [ScriptedSide(side, diary) for side in "ab"]
    blocks(*sides).measured(CASE, 0, drawn(0))
    # Killed after its readings and before its own line: longer than what was measured instead.
    file = tmp_path / "control.csv"
    header, *lines = file.read_text().splitlines(keepends=True)
    stale = [line.rsplit(",", 1)[0] + ",99\n" for line in lines]
    stale += [
        f"{CASE.id},0,{pair},{place},{side},a,99\n"
        for pair in (9, 10)
        for place, side in ((1, "b"), (2, "a"))
    ]
    file.write_text("".join((header, *stale, *lines)))
    assert blocks(*sides).holds(CASE, 0)
    assert len(readings_of(file)[CASE.id, 0]) == len(lines)


@pytest.mark.parametrize("name", ["blocks.csv", "control.csv"])
def test_a_table_that_was_saved_again_gets_its_own_form(
    blocks: MakeBlocks, diary: Diary, tmp_path: Path, name: str
) -> None:
    sides = [ScriptedSide(side, diary) for side in "ab"]
    first = blocks(*sides).measured(CASE, 0, drawn(0))
    file = tmp_path / name
    own = file.read_text()
    file.write_text(own.replace(",", ";").replace("\n", "\r\n"), newline="")
    again = blocks(*sides)
    assert file.read_text().splitlines()[0] == own.splitlines()[0]
    assert again.measured(CASE, 0, drawn(0)) == first
    again.measured(CASE, 1, drawn(1))
    assert {number for _, number in readings_of(tmp_path / "control.csv")} == {0, 1}


def test_a_block_that_was_measured_again_is_held_against_its_last_readings(
    blocks: MakeBlocks, diary: Diary, tmp_path: Path
) -> None:
    sides = [ScriptedSide(side, diary) for side in "ab"]
    blocks(*sides).measured(CASE, 0, drawn(0))
    for side in sides:
        # Its rounds were lost.
        side.records.clear()
    again = blocks(*sides).measured(CASE, 0, drawn(0))
    rows = read_table(tmp_path / "blocks.csv", BLOCKS)[0]
    assert len(rows) == 2
    assert rows[0]["control_a_s"] != rows[1]["control_a_s"]
    assert blocks(*sides).measured(CASE, 0, drawn(0)) == again


def test_ctrl_c_ends_both_launches(blocks: MakeBlocks, diary: Diary) -> None:
    a, b = (ScriptedSide(side, diary) for side in "ab")
    cut = blocks(a, b)
    readings = iter([1.0, 1.0, 1.0])

    def interrupted(passes: int) -> float:
        try:
            return next(readings)
        except StopIteration:
            raise KeyboardInterrupt from None

    cut._probe = interrupted
    with pytest.raises(KeyboardInterrupt):
        cut.measured(CASE, 0, drawn(1))
    assert (a.closed, b.closed) == (1, 1)
