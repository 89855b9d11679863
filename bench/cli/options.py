"""The options of a run, declared once: `fmnist-bench run` and `pytest bench` share them.

Click does not check ranges and defaults, because pytest parses the same options by itself.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bench.cli.declared import AXES, OPTIONS, Option
from bench.schema.bounds import MOST_EPOCHS, MOST_LAUNCHES, MOST_SECONDS, MOST_STEPS
from bench.schema.case import SCALINGS, STRONG
from bench.schema.matrix import DUEL, DUEL_AXES, EPOCHS, LAUNCHES, SPREADS, expand, parse_axes
from bench.schema.plan import Plan, RunSettings
from fmnist_models import DATA_VARIABLE
from fmnist_models.errors import UserError
from fmnist_models.own import FUNCTION, sent

if TYPE_CHECKING:
    from bench.session.sides import Side

_F = TypeVar("_F", bound=Callable[..., Any])
_LARGEST_SEED = 2**31 - 1_001
_DEFAULTS = RunSettings()
# Launches of each case where several replicas are compared with one.
_TO_COMPARE = 3
# Of a group or of a command that stands alone.
HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


def refuse_empty(name: str, value: object) -> None:
    """Refuse an empty value, which an unset shell variable gives; it never means the default.

    Raises:
        UserError: `value`, or one of several, is empty or only spaces.
    """
    values = value if isinstance(value, tuple) else (value,)
    if any(isinstance(text, str) and not text.strip() for text in values):
        raise UserError(
            f"{name} '': it is empty, maybe from an unset variable; give a value or leave it out"
        )


class Verb(click.Command):
    """A command that refuses empty values of options and arguments."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, and refuse empty values, named as they were typed."""
        rest = super().parse_args(ctx, args)
        for parameter in self.params:
            is_option = isinstance(parameter, click.Option)
            name = parameter.opts[-1] if is_option else parameter.make_metavar(ctx)
            refuse_empty(name, ctx.params.get(parameter.name or ""))
        return rest


class Verbs(click.Group):
    """A group whose commands are `Verb`s, and take `-h` as it does."""

    def __init__(self, *args: Any, **words: Any) -> None:
        super().__init__(*args, context_settings=HELP, **words)

    command_class = Verb
    group_class = type


def is_given(value: Any) -> bool:
    """Whether the user gave the option: 0 is a value; None and False are not."""
    return value is not None and value is not False


def refuse_plan_options(values: Mapping[str, Any]) -> None:
    """Refuse options of the plan together with `--resume`, which takes them from the folder.

    Raises:
        UserError: such an option is given.
    """
    for option in OPTIONS:
        if option.of_plan and is_given(values.get(option.key)):
            named = "" if option.kind is bool else f" {values[option.key]}"
            raise UserError(
                f"--{option.name}{named}: --resume takes it from the folder; "
                f"leave --{option.name} out"
            )


def to_stderr(line: str) -> None:
    """Print a line about a plan that is being made."""
    click.echo(line, err=True)


def plan_from(
    values: Mapping[str, Any],
    present: Callable[[], list[str]],
    command: str,
    side: Side | None = None,
    told: Callable[[str], None] = to_stderr,
    wait: bool | None = False,
) -> Plan:
    """The plan from the options; missing values take their defaults.

    Args:
        values: the values by `Option.key`; None where the user gave none.
        present: returns the devices of this machine; called only where `devices` is missing.
        command: the command line that repeats the run.
        side: the side of a duel that holds the user's own models; None for the working folder.
        told: called with each line about the plan, such as that own models are looked at.
        wait: how they are looked at where another run measures (`inspection.look_at`).

    Raises:
        UserError: a value is out of range or unknown, or another run measures.
    """
    from bench.cli import here

    matrix = values.get("matrix") or "documented"
    axes = parse_axes({axis: values.get(axis) for axis in AXES})
    if axes.replicas is None:
        _refuse_words_of_replicas(values)
    named = axes.devices or (DUEL_AXES.devices if matrix == DUEL else None)
    axes = replace(
        axes,
        backends=axes.backends or here.default_backends(told),
        spread=spread_of(values),
        scaling=_word(values, "scaling", SCALINGS, STRONG),
    )
    if axes.replicas not in (None, (1,)):
        axes = here.with_replicas(replace(axes, devices=named))
    else:
        devices = tuple(present()) if named is None else here.each_once(named, told)
        axes = replace(axes, devices=devices)
    # Wrong words are an error before anything of the user's is looked at.
    cases = tuple(expand(matrix, axes, ()))
    if named is None and any(case.replicas > 1 for case in cases) and (why := here.why_on_cpu()):
        told(why)
    settings, label = _settings(values, matrix), values.get("label")
    plan = Plan(cases, settings, matrix, label, command, sent=tuple(sent().pickles))
    if not any(FUNCTION.fullmatch(model) for model in axes.models or ()):
        return plan
    from bench.session.inspection import with_works

    return with_works(plan, axes, told, values.get("epochs"), side, wait)


def _refuse_words_of_replicas(values: Mapping[str, Any]) -> None:
    for key in ("processes", "scaling"):
        if values.get(key) is not None:
            raise UserError(
                f"--{key} {values[key]}: it is about several replicas: name their numbers with "
                "--replicas, or leave it out"
            )


def _settings(values: Mapping[str, Any], matrix: str) -> RunSettings:
    # One launch has no interval of its efficiency.
    launches = _TO_COMPARE if values.get("replicas") else LAUNCHES.get(matrix)
    return RunSettings(
        epochs=_whole(values, "epochs", EPOCHS.get(matrix, _DEFAULTS.epochs), 1, MOST_EPOCHS),
        seed=_whole(values, "seed", _DEFAULTS.seed, 0, _LARGEST_SEED),
        launches=_whole(values, "launches", launches, 1, MOST_LAUNCHES),
        score_target=_number(values, "accuracy_target", _DEFAULTS.score_target, 1.0),
        timeout_s=_number(values, "timeout", _DEFAULTS.timeout_s, MOST_SECONDS),
        data=_folder(values.get("data") or os.environ.get(DATA_VARIABLE)),
        fork=not values.get("fresh"),
        steps=_whole(values, "steps", None, 1, MOST_STEPS),
        cache_stream=bool(values.get("cache_stream")),
        scaling=_word(values, "scaling", SCALINGS, STRONG),
    )


def spread_of(values: Mapping[str, Any]) -> str | None:
    """How several replicas are driven, by `--processes`; None for each backend's own.

    Raises:
        UserError: an unknown word.
    """
    spread: str | None = _word(values, "processes", SPREADS, None)
    return spread


def _word(values: Mapping[str, Any], key: str, known: Sequence[str], default: Any) -> Any:
    value = values.get(key)
    if value is not None and value not in known:
        raise UserError(f"--{key} {value!r}: choose from {', '.join(known)}")
    return default if value is None else value


def _whole(values: Mapping[str, Any], key: str, default: Any, low: int, high: int) -> Any:
    value = values.get(key)
    if value is None:
        return default
    if not low <= value <= high:
        raise UserError(f"--{key} {value}: must be between {low} and {high}")
    return value


def _number(values: Mapping[str, Any], key: str, default: float, high: float) -> float:
    value = values.get(key)
    if value is None:
        return default
    if not (math.isfinite(value) and 0 < value <= high):
        option = key.replace("_", "-")
        raise UserError(f"--{option} {value:g}: must be above 0 and at most {high:g}")
    return float(value)


def _folder(text: str | None) -> str | None:
    # Not Path.resolve, which raises where a link leads to itself.
    return os.path.realpath(text) if text else None


def options(
    wanted: Callable[[Option], bool],
    declared: Sequence[Option] = OPTIONS,
    helps: Mapping[str, str] = MappingProxyType({}),
) -> Callable[[_F], _F]:
    """A decorator that adds shared options to a verb, in the order of their declaration.

    Args:
        wanted: whether to add an option.
        declared: the options to choose from.
        helps: help texts that replace those of a run, by option name.
    """

    def decorate(function: _F) -> _F:
        """Add the wanted options to `function`."""
        for option in reversed([option for option in declared if wanted(option)]):
            name, told = f"--{option.name}", helps.get(option.name, option.help)
            if option.kind is bool:
                add = click.option(name, is_flag=True, help=told)
            else:
                add = click.option(name, type=option.kind, metavar=option.metavar, help=told)
            function = add(function)
        return function

    return decorate
