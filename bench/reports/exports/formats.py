"""The formats by name, and the file that an export becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.reports.exports import benchmark_action, bmf, mlperf, prometheus
from bench.reports.exports.figures import Export
from bench.schema.errors import ELSEWHERE, explained
from bench.schema.runs import MeasuredRun
from bench.store.files import Kind
from bench.store.tables import write_text
from fmnist_models.errors import UserError

Fields = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Format:
    """A format: what makes its text, what of its files may be replaced, and its fields to set."""

    export: Callable[[MeasuredRun, Fields], Export]
    kind: Kind
    takes_fields: bool = False


def _without_fields(
    export: Callable[[MeasuredRun], Export],
) -> Callable[[MeasuredRun, Fields], Export]:
    return lambda run, _: export(run)


FORMATS: Mapping[str, Format] = {
    "bmf": Format(_without_fields(bmf.bmf), bmf.KIND),
    "benchmark-action-smaller": Format(
        _without_fields(benchmark_action.smaller), benchmark_action.SMALLER
    ),
    "benchmark-action-bigger": Format(
        _without_fields(benchmark_action.bigger), benchmark_action.BIGGER
    ),
    "prometheus": Format(_without_fields(prometheus.prometheus), prometheus.KIND),
    "mlperf-system": Format(mlperf.mlperf_system, mlperf.KIND, takes_fields=True),
}


def export(run: MeasuredRun, name: str, fields: Fields) -> Export:
    """The run in the format `name`.

    Args:
        run: the run.
        name: a key of `FORMATS`.
        fields: fields of the user's own, by name.

    Raises:
        UserError: an unknown format, fields that it does not have, or nothing to export.
    """
    if name not in FORMATS:
        raise UserError(f"--format {name!r}: choose from {', '.join(FORMATS)}")
    if fields and not FORMATS[name].takes_fields:
        raise UserError(
            f"--set {next(iter(fields))}=: --format {name} has no fields to set; leave --set out"
        )
    return FORMATS[name].export(run, fields)


def write_export(found: Export, name: str, file: Path) -> None:
    """Replace `file` in one move, which a collector never sees half of.

    Raises:
        UserError: it is no export in this format, or cannot be written.
    """
    with explained(file, ELSEWHERE):
        write_text(file, found.text, FORMATS[name].kind)
