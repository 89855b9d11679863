"""The kinds of work of a run: only cases of one kind are ranked against each other."""

from __future__ import annotations

from dataclasses import dataclass

from bench.reports import formatting
from bench.reports.page.finding import measured
from bench.reports.page.source import Source
from bench.schema.cells import few_of
from bench.schema.columns import Row

# What a worker tells in place of a stream's digest.
_STREAM = "unknown"


@dataclass(frozen=True, slots=True)
class Work:
    """The measured cases with the same data and the same score; of a stream, with the same model.

    Attributes:
        name: its model; of several models `the embedded images`, or the first of them.
        rows: the rows of its cases, in order.
    """

    name: str
    rows: tuple[Row, ...]

    def called(self, row: Row) -> str:
        """What tells a case from the others of this work."""
        if len(self.rows) == 1:
            return formatting.name(row)
        return formatting.short_names({row["case"]: row for row in self.rows})[row["case"]]


def works(source: Source) -> list[Work]:
    """The kinds of work of a run, in the order of its cases."""
    images = source.run.environment.get("dataset_digest")
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in measured(source):
        # Of the embedded images, a row of an earlier version and `logistic` hold no digest.
        data = "" if row["data_digest"] == images else row["data_digest"] or ""
        data = row["model"] if data == _STREAM else data
        found.setdefault((row["score"], row["better"], data), []).append(row)
    return [Work(_name(rows, data), tuple(rows)) for (_, _, data), rows in found.items()]


def _name(rows: list[Row], data: str) -> str:
    # Without the module, which most functions of a user share.
    models = list(dict.fromkeys(row["model"].rpartition(":")[2] for row in rows))
    return "the embedded images" if len(models) > 1 and not data else few_of(models)
