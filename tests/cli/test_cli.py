"""`fmnist-bench` as a user types it: words, exit codes, one line for a mistake."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from support import Program, TypeIn

from bench import cli
from bench.cli.declared import OPTIONS
from bench.cli.verb import without_collector
from bench.machine import environment


def test_help_names_every_option_of_a_run() -> None:
    text = CliRunner().invoke(cli.cli, ["run", "--help"]).output
    for option in OPTIONS:
        assert f"--{option.name}" in text


def test_help_imports_nothing_slow(program: Program) -> None:
    done = program("bench", "--help", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    slow = {"tensorflow", "keras", "numpy", "pandas", "matplotlib", "scipy", "rich", "psutil"}
    assert not imported & slow


def test_list_shows_cases_skips_and_time(type_in: TypeIn) -> None:
    code, out, _ = type_in(
        "list",
        "--models",
        "relu_mlp",
        "--optimizers",
        "adam",
        "--devices",
        "cpu",
        "--batch-sizes",
        "32",
        "--precisions",
        "float32,tf32",
        "--loops",
        "fit,compiled",
    )
    assert code == 0
    assert "relu_mlp-adam-compiled-cpu-b32-float32  x3" in out
    assert "relu_mlp-adam-fit-cpu-b32-tf32  skipped: " in out
    assert "2 cases to measure, 2 skipped; about " in out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("run", "--models", "resnet"), "unknown model 'resnet'"),
        (("run", "--models", ","), "a value is empty"),
        (("run", "--threads", "2,"), "--threads '2,': a value is empty"),
        (("run", "--replicas", "0"), "--replicas 0: must be at least 1"),
        (("run", "--replicas", "1,x"), "--replicas 'x': must be a whole number"),
        (("run", "--replicas", "5000"), "--replicas 5000: must be at most 4096"),
        (("run", "--replicas", "3"), "batch size 32: it does not divide by 3 replicas"),
        (("run", "--replicas", "2", "--scaling", "both"), "--scaling 'both': choose from strong"),
        (("run", "--replicas", "2", "--processes", "2"), "--processes '2': choose from one, each"),
        (("run", "--scaling", "weak"), "--scaling weak: it is about several replicas: name their"),
        (("list", "--processes", "each"), "--processes each: it is about several replicas"),
        (("run", "--replicas", "2", "--find-batch"), "--replicas 2: --find-batch finds the batch"),
        (("run", "--optimizers", "adma"), "unknown optimizer 'adma'"),
        (("run", "--loops", "eager"), "unknown loop 'eager'"),
        (("run", "--devices", "tpu"), "unknown device 'tpu'"),
        (("run", "--batch-sizes", "0"), "must be at least 1"),
        (("run", "--batch-sizes", "9" * 30), "must be at most 10000000"),
        (("run", "--threads", "99999"), "--threads 99999: must be at most 4096"),
        (("run", "--threads", "0"), "--threads 0: must be at least 1"),
        (("run", "--timeout", "1e400"), "--timeout inf: must be above 0"),
        (("run", "--accuracy-target", "nan"), "--accuracy-target nan: must be above 0"),
        (("profile", "--seconds", "inf"), "--seconds inf: must be above 0 and at most 86400"),
        (("profile", "--seconds", "nan"), "--seconds nan: must be above 0"),
        (("profile", "--seconds", "0"), "--seconds 0: must be above 0"),
        (("duel", "--a", "here", "--b", "here", "--budget", "nan"), "--budget nan: must be above"),
        (("duel", "--a", "here", "--b", "here", "--gate", "1e400"), "--gate inf: write a share"),
        (("run", "--batch-sizes", "32.5"), "must be a whole number"),
        (("run", "--precisions", "int8"), "unknown value 'int8'"),
        (("run", "--epochs", "0"), "--epochs 0: must be between 1 and"),
        (("run", "--launches", "-1"), "--launches -1: must be between 1 and"),
        (("run", "--timeout", "nan"), "--timeout nan: must be above 0"),
        (("run", "--accuracy-target", "85"), "--accuracy-target 85: must be above 0"),
        (("run", "--seed", "99999999999"), "--seed 99999999999: must be between"),
        (("run", "--matrix", "huge"), "unknown matrix 'huge'"),
        (("run", "--data", "/nowhere"), "/nowhere is not a folder"),
        (("run", "--resume", "/nowhere"), "/nowhere: there is no such folder"),
        (("run", "--resume", "/nowhere", "--epochs", "3"), "leave --epochs out"),
        (("run", "--label", "a\nb"), "label 'a\\nb'"),
        (("describe", "--data", "/nowhere"), "/nowhere is not a folder"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    type_in: TypeIn, words: tuple[str, ...], line: str
) -> None:
    code, _, err = type_in(*words)
    assert code == 2
    assert err.startswith("fmnist-bench: error: ")
    assert err.count("\n") == 1
    assert line in err


def valued() -> Iterator[tuple[tuple[str, ...], str | None, str | None]]:
    """Each option and argument that takes a value, of each verb."""
    for words, command in walk((), cli.cli):
        for parameter in command.params:
            if isinstance(parameter, click.Argument):
                yield words, None, parameter.name
            elif isinstance(parameter.type, click.types.StringParamType):
                yield words, parameter.opts[-1], parameter.name


def walk(
    words: tuple[str, ...], command: click.Command
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        for name, verb in command.commands.items():
            yield from walk((*words, name), verb)
    else:
        yield words, command


# Where each argument stands in `needed`.
AT = {"folder": 0, "folders": 0, "names": 1, "runs": -1, "case": 0, "run": 0, "change": 0}
AT |= {"good": 0, "bad": 1, "paths": 2}


@pytest.mark.parametrize(("words", "option", "name"), list(valued()))
def test_no_verb_takes_an_empty_value_for_any_option(
    type_in: TypeIn, words: tuple[str, ...], option: str | None, name: str
) -> None:
    """`--resume "$UNSET"` must not measure the whole documented matrix."""
    given = () if option is None else (option, "")
    # Whatever a verb requires stands beside it, the argument in question empty.
    needed = {
        "check": ["--baseline", "x", "x"],
        "bisect": ["x", "x", "x"],
        "compare": ["x"],
        "fleet check": ["x"],
        "report": ["x"],
        "export": ["x", "--format", "bmf"],
        "baseline add": ["x", "x"],
        "baseline list": ["x"],
        "baseline remove": ["x", "x"],
        "history add": ["x"],
        "history show": ["x"],
        "history restore": ["x", "--output", "x"],
        "history remove": ["x"],
        "history ack": ["x", "--note", "x"],
    }
    more = needed.get(" ".join(words), [])
    if option is None:
        more[AT[name]] = ""
    code, _, err = type_in(*words, *more, *given)
    assert code == 2
    assert "'': it is empty" in err
    assert option is None or f"error: {option} ''" in err
    assert err.count("\n") == 1


def test_an_unknown_option_is_exit_code_2(type_in: TypeIn) -> None:
    code, _, err = type_in("run", "--modles", "softmax")
    assert code == 2
    assert "--modles" in err


def test_require_all_refuses_before_anything_is_measured(type_in: TypeIn, tmp_path: Path) -> None:
    code, _, err = type_in(
        "run",
        "--models",
        "softmax",
        "--devices",
        "cpu",
        "--precisions",
        "tf32",
        "--require-all",
        "--output",
        tmp_path / "run",
    )
    assert code == 2
    assert "--require-all" in err
    assert not (tmp_path / "run").exists()


def test_describe_prints_the_data_and_the_models(program: Program, tmp_path: Path) -> None:
    done = program("bench", "describe", "--models", "sigmoid_mlp")
    assert done.returncode == 0, done.stderr
    assert "train_images: (60000, 28, 28) uint8" in done.stdout
    assert done.stdout.count("6,000") == 10
    assert "패션 MNIST 모델" in done.stdout
    assert "79,510" in done.stdout
    assert (tmp_path / "results/samples.png").read_bytes().startswith(b"\x89PNG")


def test_a_zero_is_a_value_that_resuming_refuses(type_in: TypeIn, tmp_path: Path) -> None:
    code, _, err = type_in("run", "--resume", tmp_path, "--seed", "0")
    assert (code, "--seed 0: --resume takes it from the folder" in err) == (2, True)


def test_the_version_tells_the_revision(type_in: TypeIn, monkeypatch: pytest.MonkeyPatch) -> None:
    git = {"revision": "0123456789abcdef", "dirty": True}
    monkeypatch.setattr(environment, "_git", lambda root: git)
    monkeypatch.setattr(environment, "_version", lambda names: "1.2.3")
    assert type_in("--version") == (
        0,
        "fmnist-bench 1.2.3, revision 0123456789ab with changes\n",
        "",
    )
    # Installed: what is no release has its revision in its version.
    monkeypatch.setattr(environment, "_git", lambda root: None)
    monkeypatch.setattr(environment, "_version", lambda names: "1.2.4.dev5+g0123456")
    assert type_in("--version") == (0, "fmnist-bench 1.2.4.dev5+g0123456\n", "")


def test_the_collector_is_as_it_was_after_a_verb_without_it() -> None:
    states = []

    @without_collector()
    def fails() -> None:
        """Note the state, and fail as a verb may."""
        states.append(gc.isenabled())
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert (states, gc.isenabled()) == ([False], True)
