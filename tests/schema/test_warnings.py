"""The text form of a warning: read, it is the value, and written again, the same text."""

from __future__ import annotations

import csv
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT

from bench.schema.warnings import DISTURBED, CaseWarning, Kind, as_text, of_row, read

# To the letter: files of earlier versions hold these.
TEXTS = {
    "unsteady": CaseWarning(Kind.UNSTEADY),
    "on a CPU the replicas share its cores: a speed-up there means nothing": CaseWarning(
        Kind.ONE_CPU
    ),
    "disturbed: other processes took 31% of the cores in launch 2": CaseWarning(
        Kind.OTHER_WORK, 31, 1
    ),
    "disturbed: Ray's own daemons among them took 4% of the cores in launch 2": CaseWarning(
        Kind.RAY, 4, 1
    ),
    "disturbed: the hypervisor took 3% of the cores' time in launch 1": CaseWarning(
        Kind.STEAL, 3, 0
    ),
    "disturbed: processes of others on the GPU: 2 in launch 1": CaseWarning(
        Kind.GPU_PROCESSES, 2, 0
    ),
    "disturbed: the control group's CPU quota cut 90% of its periods short in launch 3": (
        CaseWarning(Kind.QUOTA, 90, 2)
    ),
    "disturbed: throttled for heat, times a core: 1234567 in launch 10": CaseWarning(
        Kind.HEAT, 1_234_567, 9
    ),
    "disturbed: threads waited for a core in 40% of the time in launch 1": CaseWarning(
        Kind.CPU_PRESSURE, 40, 0
    ),
    "disturbed: threads waited for memory in 120% of the time in launch 1": CaseWarning(
        Kind.MEMORY_PRESSURE, 120, 0
    ),
    "disturbed: the GPU was slowed by hw_slowdown, sw_thermal_slowdown in launch 1": CaseWarning(
        Kind.GPU_SLOWED, None, 0, "hw_slowdown, sw_thermal_slowdown"
    ),
    "disturbed: the moon took 31% of the cores in launch 2": CaseWarning(
        Kind.DISTURBANCE, None, 1, "the moon took 31% of the cores"
    ),
    "no roofline: 296 FLOPs a sample in the lowered step, 184 by its layers": CaseWarning(
        Kind.NO_ROOFLINE, words="296 FLOPs a sample in the lowered step, 184 by its layers"
    ),
    "loss scaling skipped 17 updates": CaseWarning(
        Kind.SENTENCE, words="loss scaling skipped 17 updates"
    ),
}


def test_every_kind_has_its_text_here() -> None:
    assert {warning.kind for warning in TEXTS.values()} == set(Kind)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_its_value_and_the_value_the_text(text: str) -> None:
    warning = read(text)
    assert warning == TEXTS[text]
    assert str(warning) == text
    assert warning.disturbs == text.startswith(DISTURBED)


@pytest.mark.parametrize(
    "text",
    [
        "disturbed: other processes took 031% of the cores in launch 2",
        "disturbed: other processes took ٣% of the cores in launch 2",
        f"disturbed: processes of others on the GPU: {'9' * 5000}",
        "unsteady in launch 0",
        "a layer named {:d} or {:s} {}\nin two lines",
        "",
    ],
)
def test_an_unknown_text_stays_itself(text: str) -> None:
    assert str(read(text)) == text
    assert read(text).kind in (Kind.DISTURBANCE, Kind.SENTENCE)


@given(st.lists(st.one_of(st.text(), st.sampled_from(list(TEXTS)))).map("".join))
def test_any_text_stays_itself(text: str) -> None:
    assert str(read(text)) == text


def test_a_cell_keeps_its_text_and_the_order() -> None:
    cell = "; ".join(TEXTS)
    assert of_row({"warnings": cell}) == list(TEXTS.values())
    assert as_text(of_row({"warnings": cell})) == cell
    assert of_row({"warnings": ""}) == of_row({"warnings": None}) == of_row({}) == []


def test_the_files_of_earlier_versions_keep_their_text() -> None:
    cells, said = [], []
    files = [ROOT / "results/reference/results.csv"]
    for file in (*files, *(ROOT / "results/examples").rglob("results.csv")):
        rows = csv.DictReader(file.read_text("utf-8").splitlines())
        cells += [row["warnings"] for row in rows]
        for line in (file.parent / "launches.jsonl").read_text("utf-8").splitlines():
            said += json.loads(line)["warnings"]
    assert [as_text(of_row({"warnings": cell})) for cell in cells] == cells
    assert [str(read(text)) for text in said] == said
    found = [warning.kind for cell in cells for warning in of_row({"warnings": cell})]
    assert {Kind.UNSTEADY, Kind.SENTENCE} <= set(found)
