"""The way from the id of a case back to it."""

from __future__ import annotations

from typing import Any

import pytest

from bench.schema.case import Case, logistic_case
from bench.schema.case_ids import case_of


@pytest.mark.parametrize(
    "case",
    [
        logistic_case(),
        Case("softmax", "sgd_lr0.1", "fit"),
        Case("relu_mlp", "adam", "compiled", "gpu:1", 512, "mixed_bfloat16", backend="jax"),
        Case("relu_mlp", "adam", "fit", "gpu", 64, threads=4, replicas=4, processes=4),
        Case("my.module:net", "own-folder/made.py:opt", "multistep"),
        Case("a-b/c-d.py:net", "adam", "fit", backend="torch"),
    ],
    ids=lambda case: case.id,
)
def test_an_id_leads_back_to_its_case(case: Case) -> None:
    assert case_of(case.id) == case


@pytest.mark.parametrize(
    "name",
    [
        "",
        "softmax",
        "softmax-adam-fit-cpu-b0-float32",
        "softmax-adam-fit-cpu-b032-float32",
        "softmax-adam-scan-cpu-b32-float32",
        "nonsense-adam-fit-cpu-b32-float32",
        "softmax-adam-fit-cpu-b" + "9" * 5_000 + "-float32",
        "softmax-adam-fit-cpu-b32-float32-r3",
        "<b>",
    ],
)
def test_what_is_no_id_leads_to_none(name: Any) -> None:
    assert case_of(name) is None
