"""Fields of files and messages of earlier versions under their present names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.schema.case import Case
from bench.schema.earlier import as_written, in_present_names
from bench.schema.launch import Better, LaunchRecord, Round
from bench.schema.plan import RunSettings
from bench.schema.requests import LaunchRequest


def test_fields_that_were_renamed_get_their_present_names() -> None:
    told = {"val_accuracy": 0.8, "settings": {"accuracy_target": 0.9}, "other": [1]}
    assert in_present_names(told) == {
        "val_score": 0.8,
        "settings": {"score_target": 0.9},
        "other": [1],
    }
    assert told["val_accuracy"] == 0.8


@pytest.mark.parametrize("values", [None, 1, "val_accuracy", [{"val_accuracy": 1}], {}, {"a": 1}])
def test_what_holds_no_such_field_is_left_as_it_is(values: object) -> None:
    assert in_present_names(values) is values


def test_messages_of_an_earlier_worker_are_read() -> None:
    fields = {"round": 1, "samples": 2, "updates": 1, "seconds": 1.0, "between_epochs_s": 0.0}
    assert Round.from_json({**fields, "val_accuracy": 0.8}).val_score == 0.8
    ended = {"case": "a", "launch": 0, "attempt": 1, "seed": 1, "status": "ok"}
    record = LaunchRecord.from_json({**ended, "test_accuracy": 0.7})
    assert (record.test_score, record.score, record.better) == (0.7, "accuracy", Better.MAX)
    assert record.data_digest == record.model_digest == ""
    assert RunSettings.from_json({"accuracy_target": 0.5}).score_target == 0.5


def test_an_earlier_worker_is_not_asked_what_it_does_not_know() -> None:
    asked = LaunchRequest(Case("softmax", "sgd", "fit"), 0, 1, 5, 42)
    assert not {"steps", "cache_stream", "one_call"} & {*asked.to_json()}
    assert LaunchRequest.from_json(asked.to_json()) == asked
    more = replace(asked, steps=7, cache_stream=True, one_call=True)
    assert LaunchRequest.from_json(more.to_json()) == more


def test_a_path_is_told_in_the_names_of_the_values() -> None:
    old = {"settings": {"accuracy_target": 7}, "rounds": [{"val_accuracy": 7}]}
    assert as_written(["settings", "score_target"], old) == ["settings", "accuracy_target"]
    assert as_written(["rounds", 0, "val_score"], old) == ["rounds", 0, "val_accuracy"]
    assert as_written(["settings", "score_target"], {"settings": {"score_target": 7}}) == [
        "settings",
        "score_target",
    ]
    assert as_written(["seed", 0, "val_score"], old) == ["seed", 0, "val_score"]
