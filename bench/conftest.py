"""`pytest bench --benchmark-only`: a run with the output of pytest-benchmark.

All selected cases are measured first, with launches round-robin as in `fmnist-bench run`. Then each
test replays the rounds of its case. So pytest-benchmark's tables, JSON and comparisons have
exactly the seconds of rounds.csv.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from bench.cli.declared import GATE_OPTIONS, OPTIONS, Option
from bench.cli.options import plan_from, refuse_empty, refuse_plan_options, to_stderr
from bench.machine import devices, environment
from bench.reports.end_of_run import summarize
from bench.reports.terminal.progress import progress_for
from bench.schema.plan import Plan
from bench.session import preflight, run
from bench.session.ending import orderly_stops
from bench.session.inspection import looked_at_again
from bench.session.outcome import RunOutcome
from bench.session.preflight import Opening
from bench.store.files import refuse_unwritable
from fmnist_models.errors import UserError

if TYPE_CHECKING:
    from bench.cli.gate import Guard
    from bench.verdicts.check import CheckReport

# With these options pytest runs no test.
_IDLE = ("collectonly", "setupplan", "setuponly", "benchmark_skip")
PLAN = pytest.StashKey[Plan]()
RESUMED = pytest.StashKey[Opening]()
OUTCOME = pytest.StashKey[RunOutcome]()
GUARD: pytest.StashKey[Guard] = pytest.StashKey()
CHECKED: pytest.StashKey[CheckReport] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of a run; a name that pytest or a plugin uses gets a prefix."""
    group = parser.getgroup("fmnist-bench")
    for option in (*OPTIONS, *GATE_OPTIONS):
        if option.kind is bool:
            group.addoption(
                _flag(option),
                dest=_dest(option),
                action="store_true",
                default=False,
                help=option.help,
            )
        else:
            group.addoption(
                _flag(option),
                dest=_dest(option),
                type=option.kind,
                metavar=option.metavar,
                help=option.help,
            )


def pytest_configure(config: pytest.Config) -> None:
    """Read the options; a user's error becomes a usage error of pytest."""
    if config.getoption("help", default=False) or config.getoption("numprocesses", default=None):
        if config.getoption("numprocesses", default=None):
            raise pytest.UsageError("leave -n out: launches at once would slow each other")
        return
    values = {option.key: config.getoption(_dest(option)) for option in OPTIONS}
    # Where nothing is measured, the user's own models are looked at beside another run.
    idle = any(config.getoption(name, default=False) for name in _IDLE)
    wait = None if idle else values["wait"]
    try:
        for option in (*OPTIONS, *GATE_OPTIONS):
            refuse_empty(_flag(option), config.getoption(_dest(option)))
        _refuse_unwritable(config)
        _open_guard(config)
        if values["resume"]:
            refuse_plan_options(values)
            config.stash[RESUMED], plan = preflight.resume(Path(values["resume"]))
            config.stash[PLAN] = looked_at_again(plan, to_stderr, wait)
        else:
            command = shlex.join(["pytest", *sys.argv[1:]])
            config.stash[PLAN] = plan_from(
                values, lambda: devices.present(devices.inventory()), command, wait=wait
            )
    except (UserError, OSError) as error:
        raise _usage_error(error) from error


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test for each case."""
    if "case_id" in metafunc.fixturenames:
        metafunc.parametrize("case_id", [case.id for case in metafunc.config.stash[PLAN].cases])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    """Measure the selected cases before the first test."""
    config = session.config
    wanted = {case_id for case_id in map(_case_id, session.items) if case_id}
    if wanted and not any(map(config.getoption, _IDLE)) and not session.testsfailed:
        capture = config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled(), orderly_stops():
            try:
                config.stash[OUTCOME] = _measure(config, wanted)
                _check(config)
            except (UserError, OSError) as error:
                raise _usage_error(error) from error
        if config.stash[OUTCOME].interrupted:
            raise KeyboardInterrupt
    return (yield)


@pytest.fixture
def checked(request: pytest.FixtureRequest) -> CheckReport | None:
    """The report of the check against `--baseline`; None without that option."""
    return request.config.stash.get(CHECKED, None)


@pytest.fixture
def outcome(request: pytest.FixtureRequest) -> RunOutcome:
    """The run that this session measured."""
    if OUTCOME not in request.config.stash:
        pytest.skip("nothing is measured where fixtures are only set up")
    return request.config.stash[OUTCOME]


def pytest_benchmark_generate_machine_info() -> dict[str, Any]:
    """Machine and software, in place of the default, which contains the host name.

    Only facts that are the same in every run, because pytest-benchmark compares them all.
    """
    return environment.fixed_facts(devices.inventory())


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Show the same output as at the end of `fmnist-bench run`, and the check."""
    outcome = config.stash.get(OUTCOME, None)
    if outcome is not None:
        terminalreporter.section("fmnist-bench")
        report = not config.getoption("fmnist_no_report")
        for error in summarize(outcome, Console(), report=report):
            terminalreporter.write_line(f"error: {_as_typed(str(error))}", red=True)
    checked = config.stash.get(CHECKED, None)
    if outcome is not None and checked is not None:
        from bench.reports.terminal.check import FILES, print_check

        terminalreporter.section("check against the baseline")
        print_check(checked, Console())
        for name in FILES:
            terminalreporter.write_line(str(outcome.folder.path / name))


def _refuse_unwritable(config: pytest.Config) -> None:
    """Refuse, before the measurement, files that pytest-benchmark could not write after it.

    Raises:
        UserError: a folder or file cannot be written, or pygal is missing.
    """
    file = config.getoption("benchmark_json", default=None)
    if file is not None:
        refuse_unwritable(Path(file).parent, "--benchmark-json", create=False)
        if Path(file).is_dir() or (Path(file).exists() and not os.access(file, os.W_OK)):
            raise UserError(f"--benchmark-json {file}: cannot be written; name another file")
    histogram = config.getoption("benchmark_histogram", default=None)
    if histogram and importlib.util.find_spec("pygal") is None:
        raise UserError(
            "--benchmark-histogram: pygal, which draws it, is not installed: pip install "
            "'pytest-benchmark[histogram]', or leave it out"
        )
    save = config.getoption("benchmark_save", default=None)
    if save or config.getoption("benchmark_autosave", default=None):
        storage = str(config.getoption("benchmark_storage"))
        if "://" not in storage or storage.startswith("file://"):
            refuse_unwritable(Path(storage.removeprefix("file://")), "--benchmark-storage")


def _open_guard(config: pytest.Config) -> None:
    """Read the baseline, where one is given, before the measurement.

    Raises:
        UserError: the baseline cannot be read, or a size is given without one.
        NotComparable: its runs do not fit each other.
    """
    folder, *sizes = (config.getoption(_dest(option)) for option in GATE_OPTIONS)
    if folder is None:
        for option, value in zip(GATE_OPTIONS[1:], sizes, strict=True):
            if value is not None:
                raise UserError(
                    f"{_flag(option)} {value:g}: there is nothing to gate; add --baseline FOLDER"
                )
        return
    from bench.cli.gate import Guard
    from bench.schema.sizes import Sizes

    config.stash[GUARD] = Guard.open(Path(folder), Sizes.of_check(*sizes))


def _check(config: pytest.Config) -> None:
    guard, outcome = config.stash.get(GUARD, None), config.stash[OUTCOME]
    if guard is not None and not outcome.interrupted:
        config.stash[CHECKED], _ = guard.check(outcome.folder.path)


def _measure(config: pytest.Config, wanted: set[str]) -> RunOutcome:
    plan = config.stash[PLAN]
    opening = config.stash.get(RESUMED, None)
    if opening is None:
        selected = tuple(case for case in plan.cases if case.id in wanted)
        plan = replace(plan, cases=selected)
    if GUARD in config.stash:
        config.stash[GUARD].refuse(plan)
    if opening is None:
        if config.getoption("fmnist_require_all"):
            preflight.refuse_skips(plan, devices.inventory())
        output = config.getoption("fmnist_output")
        opening = preflight.begin(plan, Path(output) if output else None)
    console = Console()
    console.print()
    return run.execute(plan, opening, progress_for(console), wait=config.getoption("fmnist_wait"))


def _case_id(item: pytest.Item) -> str | None:
    params: dict[str, str] = getattr(getattr(item, "callspec", None), "params", {})
    return params.get("case_id")


def _flag(option: Option) -> str:
    return f"--fmnist-{option.name}" if option.taken else f"--{option.name}"


def _usage_error(error: UserError | OSError) -> pytest.UsageError:
    """A usage error of pytest for a user's error or an error of the system, such as a long name."""
    if isinstance(error, OSError):
        return pytest.UsageError(f"{error.filename}: {error.strerror or error}")
    return pytest.UsageError(_as_typed(str(error)))


def _as_typed(message: str) -> str:
    """The message with the prefix of pytest added to the options that have one."""
    for option in OPTIONS:
        if option.taken:
            message = re.sub(rf"--{option.name}\b", _flag(option), message)
    return message


def _dest(option: Option) -> str:
    return f"fmnist_{option.key}"
