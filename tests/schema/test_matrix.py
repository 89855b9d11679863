"""Cases and matrices: what DESIGN names, and one line for what no axis knows."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.schema.case import LOOPS, MODELS, PRECISIONS, Case, logistic_case
from bench.schema.matrix import BATCH_SIZES, Axes, expand, parse_axes
from bench.schema.plan import RunSettings
from bench.schema.requests import LaunchRequest
from bench.session.schedule import schedule
from fmnist_models.architectures import NETWORKS
from fmnist_models.errors import UserError
from fmnist_models.optimizers import OPTIMIZERS

CPU = ("cpu",)
CASES = expand("full", Axes(threads=(None, 1), backends=("tensorflow", "jax")), CPU)


def test_an_id_reads_well_and_names_what_is_not_the_default() -> None:
    assert Case("relu_mlp", "adam", "compiled").id == "relu_mlp-adam-compiled-cpu-b32-float32"
    other = Case("m:f", "sgd", "fit", "gpu:1", 64, "mixed_float16", 2, "jax")
    assert other.id == "m:f-sgd-fit-gpu:1-b64-mixed_float16-t2-jax"
    assert logistic_case().id == "logistic-sklearn-cpu-b1-float64"


def test_ids_are_unique() -> None:
    assert len({case.id for case in CASES}) == len(CASES)


@given(st.sampled_from(CASES), st.integers(0, 9))
def test_a_request_survives_json(case: Case, launch: int) -> None:
    request = LaunchRequest(case, launch, 1, 5, 42)
    assert LaunchRequest.from_json(json.loads(json.dumps(request.to_json()))) == request


def test_documented_is_every_pair_and_two_sweeps() -> None:
    cases = expand("documented", Axes(), CPU)
    pairs = {(c.model, c.optimizer, c.loop) for c in cases if c.batch_size == 32}
    expected = {(m, o, lp) for m in NETWORKS for o in OPTIMIZERS for lp in ("fit", "compiled")}
    assert pairs == expected
    assert logistic_case() in cases
    swept = [c for c in cases if (c.model, c.optimizer) == ("relu_mlp", "adam")]
    for loop in ("fit", "compiled"):
        mine = [c for c in swept if c.loop == loop]
        assert {c.batch_size for c in mine if c.precision == "float32"} == set(BATCH_SIZES)
        assert {c.precision for c in mine if c.batch_size == 32} == set(PRECISIONS)
    assert len(cases) == len(set(cases)) == 36 + 1 + 2 * 4 + 2 * 3


def test_every_device_present_is_measured() -> None:
    cases = expand("documented", Axes(), ("cpu", "gpu:0", "gpu:1"))
    assert {c.device for c in cases} == {"cpu", "gpu:0", "gpu:1"}
    assert sum(c.model == "logistic" for c in cases) == 1


def test_full_is_the_product() -> None:
    networks = len(NETWORKS) * len(OPTIMIZERS) * 3 * len(BATCH_SIZES) * len(PRECISIONS)
    assert len(expand("full", Axes(), CPU)) == networks + 1


def test_a_list_given_replaces_its_axis() -> None:
    given_axes = parse_axes({"models": "softmax, own:net", "batch_sizes": "64", "threads": "1,2"})
    cases = expand("quick", given_axes, CPU)
    assert {c.model for c in cases} == {"softmax", "own:net"}
    assert {c.batch_size for c in cases} == {64}
    assert {c.threads for c in cases} == {1, 2}


def test_an_optimizer_keeps_the_commas_of_its_arguments() -> None:
    text = "sgd, adam:learning_rate=3e-4, clipnorm=1,own:halving, lion"
    given_axes = parse_axes({"models": "softmax", "loops": "fit", "optimizers": text})
    cases = expand("quick", given_axes, CPU)
    names = ["sgd", "adam:learning_rate=3e-4,clipnorm=1", "own:halving", "lion"]
    assert list(dict.fromkeys(case.optimizer for case in cases)) == names
    assert {case.own for case in cases} == {(), ("own:halving",)}
    assert cases[1].id == "softmax-adam:learning_rate=3e-4,clipnorm=1-fit-cpu-b32-float32"
    with pytest.raises(UserError, match="unknown optimizer 'clipnorm=1'"):
        expand("quick", parse_axes({"optimizers": "adam,clipnorm=1"}), CPU)


def test_the_baseline_follows_its_loop_and_the_cpu() -> None:
    def has_baseline(**texts: str) -> bool:
        return logistic_case() in expand("documented", parse_axes(texts), CPU)

    assert has_baseline()
    assert not has_baseline(loops="compiled")
    assert has_baseline(loops="compiled,sklearn")
    assert not has_baseline(devices="gpu")
    assert expand("documented", parse_axes({"models": "logistic"}), CPU) == [logistic_case()]


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        ({"models": "resnet"}, "unknown model 'resnet': choose from"),
        ({"models": "a b:c"}, "unknown model 'a b:c'"),
        ({"models": " , "}, "a value is empty"),
        ({"optimizers": "adma"}, "unknown optimizer 'adma'"),
        ({"loops": "eager"}, "unknown loop 'eager'"),
        ({"devices": "tpu"}, "unknown device 'tpu'"),
        ({"batch_sizes": "0"}, "--batch-sizes 0: must be at least 1"),
        ({"batch_sizes": "many"}, "'many': must be a whole number"),
        ({"precisions": "int8"}, "unknown value 'int8' for --precisions"),
        ({"threads": "5000"}, "threads 5000"),
        ({"backends": "mxnet"}, "unknown value 'mxnet'"),
        ({"models": "logistic", "loops": "fit"}, "no case is left"),
    ],
)
def test_an_unknown_value_is_one_line(texts: dict[str, str], line: str) -> None:
    with pytest.raises(UserError) as error:
        expand("documented", parse_axes(texts), CPU)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_the_baseline_has_one_form_only() -> None:
    with pytest.raises(UserError, match="has one form only, with loop 'sklearn'"):
        Case("logistic", "", "fit")
    assert set(MODELS) == {*NETWORKS, "logistic"}
    assert set(LOOPS) == {"fit", "multistep", "compiled", "sklearn"}


@given(st.lists(st.sampled_from(CASES), unique=True, max_size=12), st.integers(0, 2**31))
def test_the_order_is_seeded_complete_and_round_robin(cases: list[Case], seed: int) -> None:
    launches_of = RunSettings().launches_of
    order = list(schedule(cases, launches_of, seed))
    assert order == list(schedule(cases, launches_of, seed))
    assert len(order) == len(set(order)) == sum(map(launches_of, cases))
    assert [launch for _, launch in order] == sorted(launch for _, launch in order)


def test_another_seed_is_another_order() -> None:
    launches_of = RunSettings().launches_of
    some = CASES[:40]
    assert list(schedule(some, launches_of, 1)) != list(schedule(some, launches_of, 2))
