"""`--price` and `--currency` of `fmnist-bench compare`: what an hour of each machine costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import Verb
from fmnist_models.errors import UserError

if TYPE_CHECKING:
    from bench.schema.runs import MeasuredRun
    from bench.verdicts.cost import Prices

OPTION = "--price"
# An hour in each unit of time that a price may be of.
_IN_AN_HOUR = {"h": 1, "min": 60, "s": 3600}
# Larger ones are typing errors.
_MOST = 1e9
_LONGEST_CURRENCY = 8
_FORM = "write NAME=PRICE/h, such as laptop=0.53/h"


class PricedVerb(Verb):
    """A verb whose `--price` takes several words: `--price a=0.53/h b=2.10/h`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, a word with an equals sign after a price as another price.

        The folder of a run is none, whatever signs its name has.
        """
        spread: list[str] = []
        after_price = False
        for word in args:
            is_price = "=" in word and not word.startswith("-") and not Path(word).exists()
            if after_price and is_price and spread[-1] != OPTION:
                spread.append(OPTION)
            after_price = (
                word == OPTION or (after_price and is_price) or word.startswith(f"{OPTION}=")
            )
            spread.append(word)
        return super().parse_args(ctx, spread)


def prices_of(
    words: Sequence[str], currency: str | None, runs: Mapping[str, MeasuredRun]
) -> Prices | None:
    """The price of each run; None where none was named.

    Args:
        words: the values of `--price`.
        currency: that of `--currency`.
        runs: the runs that are compared, by name.

    Raises:
        UserError: a word is no price, a name no run, a run has no price or two, or the currency is
            missing or no short word.
    """
    if not words:
        if currency is not None:
            raise UserError(f"--currency {currency}: it is of prices: name each with {OPTION}")
        return None
    if currency is None:
        raise UserError(f"{OPTION} {words[0]}: name the --currency too, such as --currency EUR")
    if len(currency) > _LONGEST_CURRENCY or not currency.isprintable() or " " in currency:
        raise UserError(
            f"--currency {currency[: 2 * _LONGEST_CURRENCY]!r}: write one word of at most "
            f"{_LONGEST_CURRENCY} characters, such as EUR"
        )
    from bench.store.named import called
    from bench.verdicts.cost import Prices

    found: dict[str, float] = {}
    for word in words:
        name, per_hour = _price(word)
        run = called(name, runs, OPTION)
        if run in found:
            raise UserError(f"{OPTION} {word}: {run} has a price already; leave one out")
        found[run] = per_hour
    for name in runs:
        if name not in found:
            raise UserError(f"{OPTION}: {name} has no price; add {OPTION} '{name}=PRICE/h'")
    return Prices(currency, found)


def _price(word: str) -> tuple[str, float]:
    """The name of a run, and what an hour of its machine costs."""
    name, equals, price = word.rpartition("=")
    number, slash, unit = price.partition("/")
    if not (name and equals and number and slash):
        raise UserError(f"{OPTION} {word}: {_FORM}")
    if unit not in _IN_AN_HOUR:
        raise UserError(
            f"{OPTION} {word}: a price is of {', '.join(f'/{known}' for known in _IN_AN_HOUR)}, "
            f"not of /{unit}"
        )
    try:
        per_hour = float(number) * _IN_AN_HOUR[unit]
    except ValueError:
        raise UserError(f"{OPTION} {word}: {number} is no number: {_FORM}") from None
    if not (math.isfinite(per_hour) and 0 < per_hour <= _MOST):
        raise UserError(f"{OPTION} {word}: a price must be above 0 and at most {_MOST:g} an hour")
    return name, per_hour
