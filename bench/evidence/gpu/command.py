"""`python -m bench.evidence gpu` and `wheels`."""

from __future__ import annotations

from pathlib import Path

import click

from bench.backends import KNOWN
from bench.cli.options import Verb
from fmnist_models.errors import UserError

SHOWN = "results/evidence/gpu"


@click.command(cls=Verb)
@click.option("--work", metavar="FOLDER", help="a new folder for the records and the archive")
@click.option("--backends", metavar="LIST", help="[default: those that are installed]")
@click.option("--parts", metavar="LIST", help="parts to measure  [default: all]")
@click.option(
    "--minutes", type=click.FloatRange(min=0.2), default=8.0, show_default=True, metavar="N"
)
@click.option(
    "--fault", metavar="PART", help="measure this part with its fault put in, and no other"
)
@click.option(
    "--show", metavar="ARCHIVE", help="write tables and pictures of an archive, elsewhere"
)
@click.option("--output", default=SHOWN, show_default=True, metavar="FOLDER", help="of --show")
def gpu(
    work: str | None,
    backends: str | None,
    parts: str | None,
    minutes: float,
    fault: str | None,
    show: str | None,
    output: str,
) -> None:
    """Show on a GPU that what the suite says of it is true, and that each check can fail.

    Needs JAX or PyTorch with CUDA, and nothing that draws; see docs/how-to/gpu-box.md. Without a
    GPU it rehearses on the CPU with few images, and each file and record says so.
    """
    if show:
        from bench.evidence.gpu.show import show as shown

        for file in shown(Path(show), Path(output)):
            click.echo(file)
        return
    if not work:
        raise UserError("--work is missing: name a new folder for the records")
    _measured(Path(work), backends, parts, minutes, fault)


def _measured(
    work: Path, backends: str | None, parts: str | None, minutes: float, fault: str | None
) -> None:
    from bench.evidence.gpu import evidence
    from bench.evidence.gpu.box import rehearsed, this_box
    from bench.evidence.gpu.records import BAD
    from bench.machine.placement import why_missing
    from bench.schema.matrix import parse_axis

    named = parse_axis("parts", parts) if parts else evidence.NAMES
    for name in (*named, *([fault] if fault else [])):
        if name not in evidence.NAMES:
            raise UserError(f"{name!r} is no part: choose from {', '.join(evidence.NAMES)}")
    asked = parse_axis("backends", backends) if backends else ()
    for name in asked:
        if name not in KNOWN:
            raise UserError(f"{name!r} is no backend: choose from {', '.join(KNOWN)}")
    # Those that GPU boxes hold come first.
    known = sorted(KNOWN, key=lambda name: name == "tensorflow")
    chosen = asked or tuple(name for name in known if why_missing(name) is None) or tuple(known)
    if work.exists() and (not work.is_dir() or any(work.iterdir())):
        raise UserError(f"{work} is not empty: name a new folder with --work")
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {work}: {error.strerror or error}") from error
    box = this_box(work.resolve())
    if box.gpu is None:
        click.echo(f"{box.label}: {box.machine.problem or 'none was found'}")
        box = rehearsed(box)
    wish = evidence.Wish(named, chosen, minutes, fault or "")
    # Of the folder itself: the user may have named it "." or by a path that ends with "..".
    archive = box.folder.with_name(f"{box.folder.name}.tar.gz")
    try:
        records = evidence.measure(box, wish, click.echo)
    except KeyboardInterrupt:
        # What was measured may be all that there is of the machine.
        click.echo(evidence.pack(box, archive))
        raise
    click.echo(evidence.summary(records))
    click.echo(evidence.pack(box, archive))
    if bad := [f"{r.part} {r.backend}: {r.result}" for r in records if r.result in BAD]:
        raise UserError(f"{len(bad)} of {len(records)} records say so: {', '.join(bad)}")


@click.command(cls=Verb)
@click.option("--to", "folder", required=True, metavar="FOLDER", help="an empty folder")
@click.option("--python", default="3.12", show_default=True, metavar="X.Y", help="the box's Python")
def wheels(folder: str, python: str) -> None:
    """Download the wheels that a box without a network needs beside JAX or PyTorch."""
    from bench.evidence.gpu.wheels import download

    Path(folder).mkdir(parents=True, exist_ok=True)
    download(Path(folder), python, click.echo)


COMMANDS = (gpu, wheels)
