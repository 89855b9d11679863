"""Profiles from scripted readings to tables, text and picture: no TensorFlow, no clock."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
from matplotlib.patches import Rectangle
from rich.console import Console
from support import TypeIn
from support.phases import readings
from support.profiles import MIB, OPERATIONS, scripted

from bench.analysis import trace_events
from bench.analysis.phases import Share, Split, split
from bench.analysis.profile_rows import REST, Profile
from bench.analysis.trace_events import DeviceTime
from bench.evidence.known import Pair, truth_row
from bench.launch.launcher import Launcher
from bench.launch.placement import LaunchPlace
from bench.machine import lock, placement
from bench.reports.plots.profile import draw_profiles, profile_figure
from bench.reports.terminal.profile import _cell, print_profiles
from bench.schema.case import Case, logistic_case
from bench.schema.errors import ExitCode
from bench.schema.launch import Status
from bench.schema.plan import Plan, RunSettings
from bench.schema.profile import Phase, ProfileRecord
from bench.schema.requests import STACK, STARTUP, STEPS, ProfileRequest
from bench.session import profile, traces
from fmnist_models.errors import UserError


class ScriptedLauncher(Launcher):
    """Answers with readings, or with what goes wrong in the loops that `broken` names."""

    def __init__(
        self, broken: Sequence[str] = (), stop_before: int | None = None, **script: Any
    ) -> None:
        self.broken, self.stop_before, self.script = broken, stop_before, script
        self.asked: list[tuple[ProfileRequest, LaunchPlace]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def profile(self, request: ProfileRequest, place: LaunchPlace) -> ProfileRecord:
        self.asked.append((request, place))
        if len(self.asked) == self.stop_before:
            raise KeyboardInterrupt
        if request.case.loop in self.broken:
            return ProfileRecord(request.case, Status.FAILED, "out of luck")
        (Path(request.folder) / STACK).write_text("<html>")
        return ProfileRecord(
            request.case, Status.OK, readings=scripted(request.case.loop, **self.script)
        )


@pytest.fixture(autouse=True)
def no_xprof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traces are scripted as well; what is asked for is there."""

    def read(startup: Path, steps: Path, output: Path, case: str, model: str) -> trace_events.Trace:
        assert (startup.name, steps.name, model) == (STARTUP, STEPS, "relu_mlp")
        output.mkdir(parents=True, exist_ok=True)
        gpu = DeviceTime("/device:GPU:0", 1e-3, 6e-4, 1e-4, 7, 3e-4)
        return trace_events.Trace(0.5, 1.0, OPERATIONS, (gpu,), output / f"{case}.json.gz")

    monkeypatch.setattr(profile, "read_traces", read)
    monkeypatch.setattr(profile, "require_extra", lambda _: None)
    monkeypatch.setattr(profile, "the_machine", lambda *_: contextlib.nullcontext())


def cases(*loops: str) -> tuple[Case, ...]:
    return tuple(Case("relu_mlp", "adam", loop) for loop in loops)


def profiled(
    tmp_path: Path, chosen: tuple[Case, ...], launcher: Any = None
) -> tuple[profile.ProfileOutcome, list[str]]:
    said: list[str] = []
    outcome = profile.profile(
        Plan(chosen, RunSettings(), command="fmnist-bench profile"),
        tmp_path / "out",
        said.append,
        launcher=launcher or ScriptedLauncher(),
        wait=True,
    )
    return outcome, said


def table(tmp_path: Path, name: str) -> list[dict[str, str]]:
    with (tmp_path / "out" / name).open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_shares_of_a_case_add_up_to_its_measured_step(tmp_path: Path) -> None:
    outcome, said = profiled(tmp_path, cases("fit", "multistep", "compiled"))
    assert outcome.exit_code is ExitCode.PASSED
    assert said == [
        f"{n} of 3: {case.id}" for n, case in enumerate(cases("fit", "multistep", "compiled"), 1)
    ]
    rows = table(tmp_path, "profile.csv")
    assert list(rows[0])[:4] == ["case", "phase", "share", "seconds_per_step"]
    for case in cases("fit", "multistep", "compiled"):
        own = [row for row in rows if row["case"] == case.id]
        assert [row["phase"] for row in own] == [str(phase) for phase in Phase]
        assert sum(float(row["share"]) for row in own) == pytest.approx(1)
        seconds = sum(float(row["seconds_per_step"]) for row in own)
        assert seconds == pytest.approx(float(own[0]["step_s"]))
        assert float(own[0]["trace_overhead"]) == pytest.approx(0.25)
        assert own[0]["sampler_overhead"] == ""


def test_a_profile_is_no_run(tmp_path: Path) -> None:
    profiled(tmp_path, cases("fit"))
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found == {
        "environment.json",
        "profile.csv",
        "operations.csv",
        "memory.csv",
        "startup.csv",
        "devices.csv",
        "profiles.jsonl",
        "traces",
    }
    assert json.loads((tmp_path / "out/environment.json").read_text())["command"]


@pytest.mark.parametrize("end", ["broken", "stopped", "crashed"])
def test_a_profile_that_did_not_end_well_leaves_its_logs_and_no_raw_traces(
    tmp_path: Path, end: str
) -> None:
    class Leaving(ScriptedLauncher):
        def profile(self, request: ProfileRequest, place: LaunchPlace) -> ProfileRecord:
            (Path(request.folder) / "raw").write_text("raw")
            place.log.write_text("what it printed")
            if end == "crashed":
                raise RuntimeError
            return super().profile(request, place)

    launcher = Leaving(broken=["fit"] if end == "broken" else [])
    launcher.stop_before = 1 if end == "stopped" else None
    with contextlib.suppress(RuntimeError):
        profiled(tmp_path, cases("fit"), launcher)
    log = tmp_path / "out/logs/relu_mlp-adam-fit-cpu-b32-float32.txt"
    assert log.read_text() == "what it printed"
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name == "raw"]
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_a_killed_profile_is_started_again_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "out/.fmnist-bench-raw-traces/case").mkdir(parents=True)
    (tmp_path / "out/traces").mkdir()
    (tmp_path / "out/environment.json").write_text('{"dataset_digest": "abc"}')
    assert profiled(tmp_path, cases("fit"))[0].exit_code is ExitCode.PASSED
    assert not (tmp_path / "out/.fmnist-bench-raw-traces").exists()
    # Killed after a case had ended: refused, but nothing raw stays.
    (tmp_path / "out/.fmnist-bench-raw-traces/case").mkdir(parents=True)
    with pytest.raises(UserError, match=r"already holds profile\.csv"):
        profiled(tmp_path, cases("fit"))
    assert not (tmp_path / "out/.fmnist-bench-raw-traces").exists()
    (tmp_path / "out/.fmnist-bench-raw-traces/case").mkdir(parents=True)
    under_way = lock.the_folder(tmp_path / "out")
    with under_way, pytest.raises(UserError, match="another run writes to"):
        profiled(tmp_path, cases("fit"))
    assert (tmp_path / "out/.fmnist-bench-raw-traces/case").exists()


def test_a_profile_that_is_refused_leaves_nothing_and_replaces_nothing(tmp_path: Path) -> None:
    refused = lock.the_folder(tmp_path / "out")
    with refused, pytest.raises(UserError, match="another run writes to"):
        profiled(tmp_path, cases("fit"))
    assert not list((tmp_path / "out").iterdir())
    (tmp_path / "out/memory.csv").write_text("mine")
    with pytest.raises(UserError, match=r"holds memory\.csv of no profile"):
        profiled(tmp_path, cases("fit"))


def test_readings_longer_than_the_limit_of_a_launch_are_no_timeout(tmp_path: Path) -> None:
    launcher = ScriptedLauncher()
    plan = Plan(cases("fit"), RunSettings(timeout_s=20.0))
    profile.profile(plan, tmp_path / "out", print, seconds=600, launcher=launcher)
    assert launcher.asked[0][1].timeout_s == 620.0


def test_each_case_is_a_fresh_launch(tmp_path: Path) -> None:
    launcher = ScriptedLauncher()
    profiled(tmp_path, cases("fit", "compiled"), launcher)
    assert [place.fork for _, place in launcher.asked] == [False, False]
    request = launcher.asked[0][0]
    assert ProfileRequest.from_json(json.loads(json.dumps(request.to_json()))) == request


def test_memory_adds_up_to_the_peak(tmp_path: Path) -> None:
    profiled(tmp_path, cases("fit"), ScriptedLauncher(peak_device=50 * MIB))
    rows = table(tmp_path, "memory.csv")
    held = {(row["where"], row["holder"]): int(row["bytes"]) // MIB for row in rows}
    assert held == {
        ("host", "dataset"): 300,
        ("host", REST): 700,
        ("device", "weights"): 1,
        ("device", "optimizer slots"): 2,
        ("device", REST): 47,
    }
    assert sum(float(row["share"]) for row in rows) == pytest.approx(2)


def test_tracing_and_compiling_are_part_of_the_first_steps(tmp_path: Path) -> None:
    profiled(tmp_path, cases("fit"))
    stages = {row["stage"]: float(row["seconds"]) for row in table(tmp_path, "startup.csv")}
    assert stages == {
        "import": 6.0,
        "images": 1.5,
        "build": 0.25,
        "trace": 0.5,
        "compile": 1.0,
        "first steps": 0.5,
    }


def test_what_fails_or_has_no_steps_is_a_row_with_its_reason(tmp_path: Path) -> None:
    chosen = (*cases("fit", "compiled"), logistic_case())
    outcome, _ = profiled(tmp_path, chosen, ScriptedLauncher(broken=("compiled",)))
    assert outcome.exit_code is ExitCode.WRONG_USE_OR_FAILED_CASE
    rows = {row["case"]: row for row in table(tmp_path, "profile.csv") if not row["phase"]}
    assert rows[chosen[1].id]["status"] == "failed"
    assert rows[chosen[1].id]["reason"] == "out of luck"
    assert rows[chosen[2].id]["status"] == "skipped"
    assert "no steps" in rows[chosen[2].id]["reason"]


@pytest.mark.parametrize(("backend", "title"), [("jax", "JAX"), ("torch", "PyTorch")])
def test_the_backend_is_named_in_text_and_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, title: str
) -> None:
    monkeypatch.setattr(placement, "why_missing", lambda _: None)
    both = (*cases("fit"), *(replace(case, backend=backend) for case in cases("fit")))
    outcome, _ = profiled(tmp_path, both)
    screen = io.StringIO()
    print_profiles(outcome, Console(file=screen, width=80))
    text = screen.getvalue()
    assert f"relu_mlp/adam, cpu, batch 32, float32, {title}\n" in text
    assert f"under {title}'s profiler a step takes 25% longer" in text
    assert "under TensorFlow's profiler a step takes 25% longer" in text
    labels = [axes.get_label() for axes in profile_figure(outcome.profiles, {}).axes]
    assert labels[0] == "seconds: relu_mlp, adam, cpu, batch 32, float32"
    assert labels[2] == f"seconds: relu_mlp, adam, cpu, batch 32, float32, {title}"


def test_where_nothing_can_draw_a_profile_says_so_and_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, type_in: TypeIn
) -> None:
    """A box that has a GPU, and only what measures."""
    outcome, _ = profiled(tmp_path, cases("fit"))
    monkeypatch.setattr(profile, "profile", lambda *_, **__: outcome)
    monkeypatch.setattr(traces, "require_extra", lambda _: None)
    verb = importlib.import_module("bench.cli.profile")
    monkeypatch.setattr(verb, "find_spec", lambda _: None, raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = type_in("profile", "--models", "relu_mlp", "--devices", "cpu")
    assert (code, err) == (0, "")
    assert "not drawn, for matplotlib is not installed here" in out
    assert "profile.csv" in out
    assert not list(outcome.folder.glob("*.png"))


def test_ctrl_c_keeps_what_was_profiled(tmp_path: Path) -> None:
    outcome, _ = profiled(tmp_path, cases("fit", "compiled"), ScriptedLauncher(stop_before=2))
    assert outcome.exit_code is ExitCode.INTERRUPTED
    assert {row["case"] for row in table(tmp_path, "profile.csv")} == {cases("fit")[0].id}


def test_much_that_is_unexplained_is_a_warning(tmp_path: Path) -> None:
    profiled(tmp_path, cases("fit"), ScriptedLauncher(rest_s=1e-3))
    assert "of the step is not explained" in table(tmp_path, "profile.csv")[0]["warnings"]


def test_without_its_trace_a_case_keeps_its_phases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: Path | str) -> None:
        raise ValueError("half a trace")

    monkeypatch.setattr(profile, "read_traces", read)
    outcome, _ = profiled(tmp_path, cases("fit"))
    assert outcome.exit_code is ExitCode.PASSED
    rows = table(tmp_path, "profile.csv")
    assert len(rows) == len(Phase)
    assert rows[0]["warnings"] == "the trace cannot be read: half a trace"
    assert not table(tmp_path, "operations.csv")
    screen = io.StringIO()
    print_profiles(outcome, Console(file=screen, width=80))
    assert "warning: the trace cannot be read: half a trace" in screen.getvalue()


@pytest.mark.parametrize("name", ["profile.csv", "plan.json"])
def test_a_folder_that_holds_something_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).touch()
    with pytest.raises(UserError, match="already holds"):
        profiled(tmp_path, cases("fit"))


@pytest.fixture
def no_xprof_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but xprof is installed."""
    monkeypatch.setattr(traces, "why_missing", lambda _: None)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "xprof" else object()
    )


@pytest.mark.usefixtures("no_xprof_here")
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_the_extra_is_named_in_one_line(backend: str) -> None:
    with pytest.raises(UserError, match=r"^xprof is not installed: .*fmnist-bench\[profile\]"):
        traces.require_extra([backend])


@pytest.mark.usefixtures("no_xprof_here")
def test_xprof_is_needed_for_no_trace_of_pytorch_and_for_no_backend_that_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traces.require_extra(["torch", "sklearn"])
    with pytest.raises(UserError, match="xprof is not installed"):
        traces.require_extra(["torch", "jax"])
    monkeypatch.setattr(traces, "why_missing", lambda name: None if name == "torch" else "none")
    traces.require_extra(["torch", "jax"])


def test_seconds_must_be_above_0(type_in: TypeIn) -> None:
    code, _, err = type_in("profile", "--seconds", "0")
    assert code == 2
    assert err == "fmnist-bench: error: --seconds 0: must be above 0 and at most 86400\n"


def test_the_text_puts_loops_side_by_side(tmp_path: Path) -> None:
    launcher = ScriptedLauncher(broken=("multistep",))
    outcome, _ = profiled(tmp_path, cases("compiled", "multistep", "fit"), launcher)
    screen = io.StringIO()
    print_profiles(outcome, Console(file=screen, width=80))
    text = screen.getvalue()
    lines = text.splitlines()
    assert lines[0] == "relu_mlp/adam, cpu, batch 32, float32"
    assert lines[1].split() == ["of", "a", "step", "fit", "compiled"]
    assert lines[2].split() == ["input", "pipeline", "300.0", "µs", "14%", "300.0", "µs", "14%"]
    assert any(line.startswith("unexplained") for line in lines)
    assert "measured" in text
    assert "80%   4.00 ms    20 x MatMul.24  50 GFLOP/s" in text
    assert "under TensorFlow's profiler a step takes 25% longer" in text
    assert "trace 0.5, compile 1.0" in text
    assert "peak of the host 1000 MiB" in text
    assert "kernels 60%, copies 10%, 7 idle gaps 30%" in text
    assert "relu_mlp-adam-multistep-cpu-b32-float32: failed: out of luck" in text


@pytest.mark.parametrize(
    ("phase", "low", "mark"),
    [(Phase.FORWARD, -1e-5, "~"), (Phase.FORWARD, 1e-5, ""), (Phase.UNEXPLAINED, -1e-5, "")],
)
def test_a_phase_whose_rounds_do_not_agree_is_marked(phase: Phase, low: float, mark: str) -> None:
    found = Split(1e-3, (Share(phase, 1e-4, low, 2e-4, 0.1),))
    assert _cell(found, phase) == f"{mark}100.0 µs   10%"


def test_a_phase_below_zero_in_every_round_is_marked_too() -> None:
    found = Split(1e-3, (Share(Phase.METRICS, -8e-5, -9e-5, -7e-5, -0.08),))
    assert _cell(found, Phase.METRICS).startswith("~-80.0")


def test_the_picture_stacks_every_phase(tmp_path: Path) -> None:
    outcome, _ = profiled(tmp_path, cases("fit", "compiled"), ScriptedLauncher(rest_s=-1e-4))
    figure = profile_figure(outcome.profiles, outcome.environment)
    seconds, shares = figure.axes
    assert shares.get_label() == "shares: relu_mlp, adam, cpu, batch 32, float32"
    assert [label.get_text() for label in seconds.get_yticklabels()] == ["fit", "compiled"]
    assert len(shares.patches) == 2 * len(Phase)
    bars = [bar for bar in shares.patches if isinstance(bar, Rectangle)]
    assert sum(bar.get_width() for bar in bars) == pytest.approx(2)
    file = tmp_path / "profile.png"
    assert draw_profiles(outcome.profiles, outcome.environment, file)
    assert file.read_bytes().startswith(b"\x89PNG")
    assert not draw_profiles([], {}, file)


def test_what_was_injected_is_looked_for_in_its_phase(tmp_path: Path) -> None:
    """A layer of 0.2 ms that is found as 0.1 ms, in a step that is no longer for it."""
    case = cases("fit")[0]
    splits = []
    for forward_s in (4e-4, 5e-4):
        wall_s, cpu_s = readings("fit")
        shift = forward_s - 4e-4
        chain = list(wall_s)[1:]
        for variant in chain:
            wall_s[variant] = [seconds + shift for seconds in wall_s[variant]]
        splits.append(Profile(ProfileRecord(case, Status.OK), split("fit", wall_s, cpu_s)))
    row = truth_row(Phase.FORWARD, [Pair(2e-4, *splits)])
    assert row["phase"] == "forward"
    assert row["found_s"] == pytest.approx(1e-4) == row["added_s"]
    assert row["found_over_alone"] == pytest.approx(0.5)
    assert row["found_share"] == pytest.approx(1e-4 / row["step_s"])


def test_a_shared_trace_does_not_name_the_machine() -> None:
    def field(number: int, payload: bytes) -> bytes:
        return bytes([number << 3 | 2, len(payload)]) + payload

    space = field(1, b"plane of /home/ada/x.py") + field(4, b"adas-laptop") + field(1, b"end")
    kept = traces.anonymous(space, ("/home/ada",))
    assert kept == field(1, b"plane of _________/x.py") + field(1, b"end")


def test_what_is_no_trace_is_a_value_error(tmp_path: Path) -> None:
    """Which the caller makes a warning of."""
    pytest.importorskip("xprof", reason="the extra `profile` is not installed")
    with pytest.raises(ValueError, match="XSpace"):
        traces.anonymous(b"\xff")
    with pytest.raises(ValueError, match="xprof finds nothing"):
        traces.read_traces(tmp_path, tmp_path, tmp_path / "out", "case", "model")
    (tmp_path / traces.TRACE_FILE).write_bytes(b"\xff")
    with pytest.raises(ValueError, match="xprof finds nothing"):
        traces.read_traces(tmp_path, tmp_path, tmp_path / "out", "case", "model")
