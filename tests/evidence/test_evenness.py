"""What is said of duels of equals: uniform p-values, an even control, templates that differ."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.evidence import evenness
from bench.evidence.equals import BLOCKS, CASES, EqualBlock, EqualDuel, names, plan_of, read_duel
from bench.evidence.templates import alarm_rate, alarm_rows, inflation, variance_row
from bench.schema.case import Case
from bench.schema.draws import EvenDraws, SeededDraws
from bench.schema.launch import LaunchRecord, Round, Status
from bench.schema.plan import Plan, RunSettings
from bench.schema.requests import LaunchRequest
from bench.store.run_folder import RunFolder

PAIRS = 20


def fought(
    number: int,
    *,
    between: float = 0.0,
    within: float = 0.01,
    place: float = 0.0,
    chance: random.Random | None = None,
) -> EqualDuel:
    """A duel of equals: templates add `between`, a block `within` (standard deviations of
    logs), and the first of a pair reads longer by `place`."""
    chance = chance or random.Random(number)
    case, _ = CASES["compiled"]
    draws = EvenDraws(f"duel {number}", 3)
    added = {side: [chance.gauss(0, between) for _ in range(3)] for side in "ab"}
    blocks = []
    for k in range(BLOCKS):
        draw = draws.block(case, k)
        order = "".join(next(draw.firsts) for _ in range(PAIRS + 1))
        a, b = (draw.templates[side] for side in "ab")
        speed = added["b"][b] - added["a"][a] + chance.gauss(0, within)
        pairs = tuple(
            (math.exp(place + chance.gauss(0, 0.02)), math.exp(chance.gauss(0, 0.02)))
            for _ in range(PAIRS)
        )
        blocks.append(
            EqualBlock(
                speed,
                chance.gauss(0, 0.01),
                (a, b),
                order,
                pairs,
                pairs,
                tuple(bool(p % 2) for p in range(PAIRS)),
            )
        )
    loop = tuple(CASES)[number % len(CASES)]
    return EqualDuel(f"{number:02d}-{loop}", loop, "2026-03-01T12:00:00+00:00", tuple(blocks))


def summary(duels: list[EqualDuel]) -> dict[str, dict[str, Any]]:
    return {row["loop"]: row for row in evenness.summary_rows(duels)}


def test_equals_have_uniform_p_values_and_an_even_control() -> None:
    found = summary([fought(number) for number in range(80)])
    assert set(found) == {"compiled", "fit", "all"}
    every = found["all"]
    assert every["duels"] == 80
    assert every["ks_p"] > 0.05
    assert every["control_low"] < 1 < every["control_high"]
    assert every["share_control_t_beyond_2"] == pytest.approx(every["share_expected"], abs=0.08)
    # Student's t of the first look's four blocks.
    assert every["share_expected"] == pytest.approx(0.1393, abs=1e-4)


def test_a_lean_is_seen() -> None:
    duels = [fought(number) for number in range(40)]
    leaning = [
        replace(duel, blocks=tuple(replace(b, speed=b.speed + 0.005) for b in duel.blocks))
        for duel in duels
    ]
    assert summary(leaning)["all"]["ks_p"] < 0.001


@pytest.mark.parametrize(("between", "is_seen"), [(0.0, False), (0.01, True)])
def test_the_variance_between_templates_is_found_again(between: float, is_seen: bool) -> None:
    duels = [fought(number, between=between) for number in range(2_400)]
    found, within = evenness.components(duels)
    assert found == pytest.approx(between**2, abs=1.5e-5)
    assert within == pytest.approx(1e-4, rel=0.15)
    assert (evenness.templates_p(duels[:60]) < 0.01) is is_seen


def test_the_effect_of_the_place_is_found_again() -> None:
    duels = [fought(number, place=0.05) for number in range(8)]
    rows = {(row["loop"], row["of"], row["effect"]): row for row in evenness.place_rows(duels)}
    assert len(rows) == 6
    for of in ("readings", "rounds"):
        row = rows["compiled", of, "first over second"]
        assert row["ratio"] == pytest.approx(math.exp(0.05), abs=0.005)
        assert row["low"] > 1.03


def test_an_order_that_a_seed_fixes_leans_with_the_place() -> None:
    """In 6 of 8 blocks the default seed had B first in more pairs than A."""
    duels = [fought(number, place=0.05) for number in range(24)]
    rows = {(row["seed"], row["loop"]): row for row in evenness.fixed_rows(duels)}
    assert rows[42, "compiled"]["share_b_first"] > 0.5 > rows[2, "compiled"]["share_b_first"]
    assert rows[42, "compiled"]["low"] > 1
    assert rows[2, "compiled"]["high"] < 1
    flat = [fought(number) for number in range(8)]
    row = next(row for row in evenness.fixed_rows(flat) if row["seed"] == 42)
    assert abs(row["ratio"] - 1) < 0.01


def test_the_fixed_order_is_that_of_earlier_revisions() -> None:
    chance = random.Random("42 3")
    chance.choice("ab")
    expected = "".join(chance.sample(("a", "b"), 2)[0] for _ in range(12))
    assert evenness.fixed_order(42, 3, 12) == expected
    with pytest.raises(ValueError, match="block 0: its cases were not drawn"):
        SeededDraws(42).block(CASES["fit"][0], 0)


def square(between: float, within: float, n: int = 6, seed: int = 1) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    a, b = ([chance.gauss(0, between) for _ in range(n)] for _ in "ab")
    return [
        {
            "loop": "fit",
            "template_a": i,
            "template_b": j,
            "log_ratio": b[j] - a[i] + chance.gauss(0, within),
        }
        for i in range(n)
        for j in range(n)
    ]


def test_a_square_of_templates_gives_their_variance() -> None:
    rows = [variance_row(square(0.02, 0.01, seed=seed)) for seed in range(60)]
    mean = sum(row["variance_between"] for row in rows) / len(rows)
    assert mean == pytest.approx(4e-4, rel=0.2)
    inside = sum(
        row["between_over_within_low"] < 4 < row["between_over_within_high"] for row in rows
    )
    assert inside >= 52
    none = [variance_row(square(0.0, 0.01, seed=seed))["p"] <= 0.05 for seed in range(100)]
    assert sum(none) <= 11
    with pytest.raises(ValueError, match="35 blocks: 6 templates a side need 36"):
        variance_row(square(0.0, 0.01)[1:])


def test_more_templates_bring_p_values_back_to_their_level() -> None:
    assert inflation(1, 0.0) == inflation(3, 0.0) == 1
    assert alarm_rate(1.0) == pytest.approx(0.05)
    # One template each: what it adds is in every block, and nothing shows it.
    assert inflation(1, 0.5) == pytest.approx(math.sqrt(1 + BLOCKS))
    rates = [
        row for row in alarm_rows(variance_row(square(0.01, 0.01))) if row["between"] == "found"
    ]
    assert [row["templates"] for row in rates] == [1, 2, 3, 4, 8]
    falling = [row["p_below_0.05"] for row in rates]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == pytest.approx(0.05)


def test_a_duel_on_disk_is_read_with_its_places(tmp_path: Path) -> None:
    """Two blocks of two rounds; of a reading that was taken twice the later one counts."""
    case = Case("relu_mlp", "adam", "compiled", batch_size=512)
    for side, seconds in (("a", 1.0), ("b", 3.0)):
        folder = RunFolder.create(tmp_path / side, Plan((case,), RunSettings(epochs=1)))
        folder.write_environment({"time_utc": "2026-03-01T12:00:00+00:00"})
        for launch in range(2):
            for attempt, status in ((1, Status.INVALID), (2, Status.OK)):
                request = LaunchRequest(case, launch, attempt, 1, 42)
                for number in (1, 2):
                    took = seconds + number / 10 if status is Status.OK else 9.0
                    folder.append_round(request, Round(number, 100, 1, took, 0.0))
                folder.append_launch(LaunchRecord(case.id, launch, attempt, 42, status))
    blocks = [
        "case,block,first,template_a,template_b,order,control_a_s,control_b_s,control_log_ratio"
    ]
    readings = ["case,block,pair,place,side,after,seconds", f"{case.id},0,1,1,b,b,99.0"]
    for block in range(2):
        blocks.append(f"{case.id},{block},a,2,{block},abb,0.5,0.5,0.0")
        for pair, first in enumerate("abb"):
            sides = (first, "a" if first == "b" else "b")
            readings += [
                f"{case.id},{block},{pair},{place},{side},b,{pair + place / 10}"
                for place, side in enumerate(sides, 1)
            ]
    (tmp_path / "blocks.csv").write_text("\n".join(blocks) + "\n")
    (tmp_path / "control.csv").write_text("\n".join(readings) + "\n")
    verdict = {"control": [0.1, 0.2], "cases": [{"speed": [0.3, 0.4]}]}
    (tmp_path / "verdict.json").write_text(json.dumps(verdict))
    one, two = read_duel(tmp_path, "compiled").blocks
    assert (one.speed, one.control, one.templates) == (0.3, 0.1, (2, 0))
    assert two.templates == (2, 1)
    assert one.rounds == ((3.1, 1.1), (3.2, 1.2))
    assert one.readings == ((1.1, 1.2), (2.1, 2.2))
    assert one.repeated == (True, True)


def test_the_loops_alternate_and_each_duel_ends_at_its_first_look() -> None:
    assert [loop for _, loop in names(4)] == ["compiled", "fit", "compiled", "fit"]
    assert len(dict(names(40))) == 40
    assert plan_of("fit").gate == 10.0
