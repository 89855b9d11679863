"""Makes tables and a picture of an archive of GPU evidence, on another machine than the box."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.evidence.gpu.records import REHEARSAL, Record, name_of, records_of
from bench.store.files import Kind
from bench.store.tables import write_csv, write_text
from fmnist_models.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CHECKS = ("label", "part", "backend", "fault", "result", "words", "seconds")
_SWEEPS = ("sweep", "sweep-between")
_RUNS = (*_SWEEPS, "precisions")
_DUELS = ("duel-slowed", "duel-equal")
_PLAIN = (str, int, float, bool)


class _Point(NamedTuple):
    """A case of a sweep; without a roofline fraction it is on one axis only."""

    backend: str
    loop: str
    batch_size: int
    samples_per_s: float
    roofline_fraction: float | None


def show(archive: Path, output: Path) -> list[Path]:
    """Write checks.csv, device.csv, runs.csv, duels.csv, profile.csv, doctors' reports, sweep.png.

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
        tables, reports, points = list(_tables(records)), _reports(records), _points(records)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        # Another version of the suite made it, or it was edited.
        raise _damaged(archive, error) from error
    try:
        output.mkdir(parents=True, exist_ok=True)
        written = []
        for name, columns, rows in tables:
            if rows:
                file = output / name_of(f"{name}.csv", label)
                write_csv(file, columns, rows, Kind.table(columns))
                written.append(file)
        for name, text in reports.items():
            file = output / name_of(name, label)
            write_text(file, text)
            written.append(file)
    except OSError as error:
        raise UserError(f"cannot write to {output}: {error.strerror or error}") from error
    if points:
        picture = output / name_of("sweep.png", label)
        _draw(points, label, picture)
        written.append(picture)
    return written


def _read(archive: Path) -> list[Record]:
    """The records in an archive, of which nothing is unpacked."""
    try:
        with tarfile.open(archive, "r:gz") as packed:
            files = {member.name: member for member in packed if member.isfile()}
            for label in ("", REHEARSAL):
                member = files.get(f"gpu-evidence/{name_of('records.jsonl', label)}")
                if member is None or (file := packed.extractfile(member)) is None:
                    continue
                records = records_of(file.read().decode())
                labels = {record.label for record in records}
                # A file that was renamed is no evidence of a GPU.
                if len(labels) == 1 and (REHEARSAL in labels) is (label == REHEARSAL):
                    return records
    except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(f"{archive} cannot be unpacked: {error}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(archive, error) from error
    raise UserError(f"{archive} holds no records of `python -m bench.evidence gpu`")


def _damaged(archive: Path, error: Exception) -> UserError:
    return UserError(f"{archive}: its records are damaged: {type(error).__name__}: {error}")


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
    for name, parts in (("runs", _RUNS), ("profile", ("profile",))):
        rows = [row for part in parts for row in _run_rows(records, part)]
        columns = tuple(rows[0]) if rows else ()
        yield name, columns, [{column: row[column] for column in columns} for row in rows]
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
        {"label": record.label, "part": part, "backend": record.backend, **row}
        for record in records
        if record.part == part and not record.fault
        for row in record.values.get("rows", ())
    ]


def _reports(records: Sequence[Record]) -> dict[str, str]:
    """The doctors' reports, by the name of the file."""
    return {
        f"doctor-{record.backend}.txt": "\n".join([record.label, *record.values["report"]]) + "\n"
        for record in records
        if record.part == "doctor" and not record.fault and record.values
    }


def _points(records: Sequence[Record]) -> list[_Point]:
    """What the picture shows of the sweeps."""
    return [
        _Point(
            row["backend"],
            row["loop"],
            int(row["batch_size"]),
            float(row["samples_per_s"]),
            float(row["roofline_fraction"]) if row["roofline_fraction"] else None,
        )
        for part in _SWEEPS
        for row in _run_rows(records, part)
        if row["samples_per_s"]
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


def _draw(points: Sequence[_Point], label: str, file: Path) -> None:
    """Samples/s and roofline fraction by batch size, a line for each backend and loop."""
    from bench.reports.plots import style
    from bench.reports.plots.canvas import blank_figure, save_picture

    with style.style([label]):
        figure = blank_figure(10.0, 4.0)
        figure.text(0.07, 0.93, f"relu_mlp with adam in float32: {label}", size=style.TITLE_PT)
        left, right = (figure.add_axes((x, 0.15, 0.31, 0.64)) for x in (0.07, 0.56))
        _draw_one(left, points, [point.samples_per_s for point in points], "samples/s")
        fractions = [point.roofline_fraction for point in points]
        _draw_one(right, points, fractions, "roofline fraction")
        save_picture(figure, file)


def _draw_one(
    axes: Axes, points: Sequence[_Point], values: Sequence[float | None], title: str
) -> None:
    """A panel; each line has its name at its end, its loop's colour and its backend's dash."""
    from bench.reports.plots import panels
    from bench.reports.plots.style import line_styles, log_axis, loop_style

    panels.title(axes, title)
    lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for point, value in sorted(zip(points, values, strict=True), key=lambda pair: pair[0]):
        if value is not None:
            lines.setdefault((point.backend, point.loop), []).append((point.batch_size, value))
    if not lines:
        panels.empty(axes, "none was measured")
        return
    log_axis(axes, axes.yaxis, [value for line in lines.values() for _, value in line])
    panels.doubling_axis(axes, {size for line in lines.values() for size, _ in line}, "batch size")
    dashes = line_styles(sorted({backend for backend, _ in lines}))
    for (backend, loop), line in lines.items():
        drawn = {"linewidth": 1.2, "marker": "o", **loop_style(loop)}
        axes.plot(*zip(*line, strict=True), linestyle=dashes[backend], **drawn)
    names = [f"{backend}, {loop}" for backend, loop in lines]
    panels.name_ends(axes, [line[-1] for line in lines.values()], names)
