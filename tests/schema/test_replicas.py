"""Several replicas as an axis of the matrix: names, numbers of processes, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.schema.case import Case
from bench.schema.matrix import Axes, parse_axes
from bench.schema.requests import LaunchRequest, ProfileRequest
from fmnist_models.errors import UserError
from fmnist_models.replicas import Replicas

ALONE = Case("relu_mlp", "adam", "compiled", batch_size=512, backend="jax")


def test_the_id_names_replicas_and_processes_where_there_are_several() -> None:
    assert ALONE.id == "relu_mlp-adam-compiled-cpu-b512-float32-jax"
    assert replace(ALONE, replicas=4).id == f"{ALONE.id}-r4"
    assert replace(ALONE, replicas=4, processes=4).id == f"{ALONE.id}-r4-p4"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"replicas": 0}, "replicas 0: must be between 1 and 4096"),
        ({"replicas": 4097}, "replicas 4097: must be between 1 and 4096"),
        ({"replicas": 4, "processes": 2}, "processes 2: must be 1, or one for each of 4 replicas"),
        ({"replicas": 3}, "batch size 512: it does not divide by 3 replicas: name a multiple of 3"),
        ({"replicas": 2, "device": "gpu:1"}, "device 'gpu:1': it is one device, and 2 replicas"),
    ],
)
def test_a_case_that_cannot_be_is_one_line(changes: dict[str, int], line: str) -> None:
    with pytest.raises(UserError, match=line):
        replace(ALONE, **changes)  # type: ignore[arg-type]


def test_the_baseline_has_one_form() -> None:
    with pytest.raises(UserError, match="replicas 2: the model 'logistic' has one form only"):
        Case("logistic", "", "sklearn", "cpu", 1, "float64", None, "sklearn", replicas=2)


def cases_of(**axes: object) -> list[Case]:
    given = {"models": ("relu_mlp",), "optimizers": ("adam",), "loops": ("compiled",), **axes}
    return list(Axes(**given).cases())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("backend", "spread", "processes"),
    [
        ("tensorflow", None, 1),
        ("jax", None, 1),
        ("torch", None, 2),
        ("jax", "each", 2),
        ("torch", "one", 1),
    ],
)
def test_each_backend_drives_replicas_in_its_own_way_unless_the_user_names_one(
    backend: str, spread: str | None, processes: int
) -> None:
    alone, two = cases_of(backends=(backend,), replicas=(1, 2), spread=spread)
    assert (alone.replicas, alone.processes) == (1, 1)
    assert (two.replicas, two.processes) == (2, processes)


def test_in_weak_scaling_a_batch_size_is_that_of_each_replica() -> None:
    found = cases_of(batch_sizes=(32,), replicas=(1, 3), scaling="weak")
    assert [case.batch_size for case in found] == [32, 96]
    assert found[1].alone("weak") == found[0]
    assert found[1].alone("strong") == replace(found[0], batch_size=96)


def test_all_stands_for_a_number_that_the_machine_knows() -> None:
    assert parse_axes({"replicas": "1,2,all"}).replicas == (1, 2, "all")


def test_a_worker_of_an_earlier_revision_is_told_of_several_replicas_only() -> None:
    request = LaunchRequest(ALONE, 0, 1, epochs=1, seed=1)
    plain = request.to_json()
    assert not {"rank", "meeting"} & plain.keys()
    assert not {"replicas", "processes"} & plain["case"].keys()
    assert LaunchRequest.from_json(plain) == request
    spread = replace(request, case=replace(ALONE, replicas=2, processes=2), rank=1, meeting="h:1")
    assert LaunchRequest.from_json(spread.to_json()) == spread
    assert spread.replicas == Replicas(2, 2, 1, "h:1")


def test_a_profile_knows_its_replicas() -> None:
    request = ProfileRequest(replace(ALONE, replicas=2), 1, "folder", 1.0, 1)
    assert ProfileRequest.from_json(request.to_json()).replicas == Replicas(2)


def test_a_process_drives_its_share_of_the_replicas() -> None:
    assert (Replicas().here, Replicas().spread) == (1, False)
    assert (Replicas(4).here, Replicas(4).spread) == (4, True)
    assert Replicas(4, 4, 2, "h:1").here == 1
