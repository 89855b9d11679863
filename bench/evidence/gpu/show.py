"""Makes tables and a picture of an archive of GPU evidence, on another machine than the box."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.evidence.gpu.records import REHEARSAL, Record, name_of, records_of
from bench.store.files import Kind
from bench.store.tables import write_csv, write_text
from fmnist_models.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Sequence[Mapping[str, Any]]
_CHECKS = ("label", "part", "backend", "fault", "result", "words", "seconds")
_RUNS = ("sweep", "sweep-between", "precisions")
_DUELS = ("duel-slowed", "duel-equal")
_PLAIN = (str, int, float, bool)


def show(archive: Path, output: Path) -> list[Path]:
    """Write checks.csv, device.csv, runs.csv, duels.csv, the doctors' reports and sweep.png.

    Of a rehearsal, each file's name, each row and the picture say so.

    Args:
        archive: what `bench.evidence gpu` packed.
        output: the folder of the files.

    Raises:
        UserError: the archive holds no records, or a file cannot be written.
    """
    records = _read(archive)
    label = records[0].label
    try:
        output.mkdir(parents=True, exist_ok=True)
        written = []
        for name, columns, rows in _tables(records):
            if rows:
                file = output / name_of(f"{name}.csv", label)
                write_csv(file, columns, rows, Kind.table(columns))
                written.append(file)
        for record in records:
            if record.part == "doctor" and not record.fault and record.values:
                file = output / name_of(f"doctor-{record.backend}.txt", label)
                write_text(file, "\n".join([label, *record.values["report"]]) + "\n")
                written.append(file)
    except OSError as error:
        raise UserError(f"cannot write to {output}: {error.strerror or error}") from error
    points = [row for row in _run_rows(records, "sweep") if row["samples_per_s"]]
    if points:
        picture = output / name_of("sweep.png", label)
        _draw(points, label, picture)
        written.append(picture)
    return written


def _read(archive: Path) -> list[Record]:
    """The records in an archive, of which nothing is unpacked."""
    try:
        with tarfile.open(archive) as packed:
            files = {member.name: member for member in packed if member.isfile()}
            for label in ("", REHEARSAL):
                member = files.get(f"gpu-evidence/{name_of('records.jsonl', label)}")
                if member is None or (file := packed.extractfile(member)) is None:
                    continue
                records = records_of(file.read().decode())
                if records and len({record.label for record in records}) == 1:
                    return records
    except (OSError, tarfile.TarError, EOFError) as error:
        raise UserError(f"{archive} cannot be unpacked: {error}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{archive}: its records are damaged: {error}") from error
    raise UserError(f"{archive} holds no records of `python -m bench.evidence gpu`")


def _tables(records: Sequence[Record]) -> Iterator[tuple[str, tuple[str, ...], list[Any]]]:
    """(name, columns, rows) of each table."""
    yield "checks", _CHECKS, [{name: getattr(r, name) for name in _CHECKS} for r in records]
    device = ("label", "part", "backend", "fault", "quantity", "value")
    verbs = (*_RUNS, *_DUELS, "doctor", "profile")
    yield (
        "device",
        device,
        [
            dict(zip(device, (r.label, r.part, r.backend, r.fault, name, value), strict=True))
            for r in records
            if r.part not in verbs
            for name, value in _flat(r.values)
        ],
    )
    runs = [row for part in _RUNS for row in _run_rows(records, part)]
    yield "runs", tuple(runs[0]) if runs else (), runs
    duels = ("label", "part", "backend", "verdict", "blocks", "log_ratio", "expected_slower")
    yield (
        "duels",
        duels,
        [
            {
                "label": r.label,
                "part": r.part,
                "backend": r.backend,
                "verdict": r.values["verdict"],
                "blocks": r.values["blocks"],
                "log_ratio": sum(r.values["log_ratios"]) / r.values["blocks"],
                "expected_slower": r.values["expected_slower"] if r.part == "duel-slowed" else 0.0,
            }
            for r in records
            if r.part in _DUELS and not r.fault and r.values.get("blocks")
        ],
    )


def _run_rows(records: Sequence[Record], part: str) -> list[dict[str, Any]]:
    """The rows of the runs of a part without a fault."""
    return [
        {"label": record.label, "part": part, **row}
        for record in records
        if record.part.startswith(part) and not record.fault and record.part in (part, _RUNS[1])
        for row in record.values.get("rows", ())
    ]


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """(name, value) of the plain values; a name within another follows a dot."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif isinstance(value, _PLAIN):
            yield f"{before}{name}", value
        elif isinstance(value, list):
            yield f"{before}{name}", " ".join(map(str, value))


def _draw(points: Rows, label: str, file: Path) -> None:
    """Samples/s and roofline fraction by batch size, a line for each backend and loop."""
    from matplotlib import style

    from bench.reports.plots.canvas import blank_figure, save_picture

    with style.context("default"):
        figure = blank_figure(9.0, 4.0)
        figure.suptitle(f"relu_mlp, adam, float32 on: {label}")
        for place, (column, title) in enumerate(
            (("samples_per_s", "samples/s"), ("roofline_fraction", "roofline fraction")), 1
        ):
            _draw_one(figure.add_subplot(1, 2, place), points, column, title)
        figure.tight_layout()
        save_picture(figure, file)


def _draw_one(axes: Axes, points: Rows, column: str, title: str) -> None:
    for backend, loop in sorted({(row["backend"], row["loop"]) for row in points}):
        own = [(r["backend"], r["loop"]) == (backend, loop) and bool(r[column]) for r in points]
        line = sorted(
            (int(row["batch_size"]), float(row[column]))
            for row, is_own in zip(points, own, strict=True)
            if is_own
        )
        if line:
            axes.plot(*zip(*line, strict=True), marker="o", label=f"{backend}, {loop}")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("batch size")
    axes.set_title(title)
    axes.grid(visible=True, alpha=0.3)
    if axes.lines:
        axes.legend(fontsize="small")
