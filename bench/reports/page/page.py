"""The page of runs: findings, table and charts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.machine import variables
from bench.reports.machine_text import machine_lines
from bench.reports.page.charts import case_figures
from bench.reports.page.document import Parts, assembled, write_page
from bench.reports.page.figure import CONFIG, Figure
from bench.reports.page.finding import Finding
from bench.reports.page.findings import comparison_findings, findings
from bench.reports.page.records import ROUND_FIELDS, case_records, round_records
from bench.reports.page.roundcharts import profile_figure, ratio_figure, round_figures
from bench.reports.page.source import Profile, Source, read_profiles, read_sources
from bench.reports.page.table import FILTERS, case_table
from bench.reports.terminal.run import notes
from bench.schema.errors import NotComparable
from bench.store.files import PAGE, target_of
from bench.verdicts.across import values_of
from bench.verdicts.compare import Comparison, compare
from bench.verdicts.compatibility import shown as shown_facts

NAME = "report.html"
# The axes whose values are facts of a run.
_AXES = ("threads", "replicas")


@dataclass(frozen=True, slots=True)
class RunView:
    """What the page shows of one run, besides its cases.

    Attributes:
        machine: two lines, the machine and its software.
        facts: texts of the facts, in the order of `fact_names`.
        notes: each warning or reason with its cases.
        repeat: the commands that repeat the run.
    """

    name: str
    machine: Sequence[str]
    facts: Sequence[str]
    notes: Mapping[str, Sequence[str]]
    repeat: Sequence[str]
    findings: Sequence[Finding]


def write_report(runs: Sequence[Path], output: Path | None = None) -> Path:
    """Write the page of these runs; returns its path.

    Args:
        runs: folders of runs, folders that hold runs, and folders of profiles.
        output: the file, or a folder for it; by default the folder of the run, and the
            working folder for several.

    Raises:
        UserError: a run cannot be read or holds no case, or the page cannot be written.
    """
    sources, profiles = read_sources(runs), read_profiles(runs)
    if output is None:
        output = sources[0].run.path / NAME if len(sources) == 1 else Path(NAME)
    elif output.is_dir():
        output /= NAME
    target_of(output, PAGE)
    write_page(output, page(sources, profiles))
    return output


def page(sources: Sequence[Source], profiles: Sequence[Profile] = ()) -> str:
    """The whole page as HTML."""
    records = case_records(sources)
    rounds, one_in = round_records(sources)
    found, why_not = _compared(sources)
    figures = [*case_figures(sources, records), *round_figures(records, one_in)]
    shown = {
        "cases": figures,
        "runs": [ratio_figure(found)] if found else [],
        "profiles": [profile] if (profile := profile_figure(profiles)) else [],
    }
    said = shown_facts([source.run.environment for source in sources])
    data = {
        # Records are lists, with the field names once, because a large run has thousands.
        "record_fields": list(records[0]) if records else [],
        "records": [list(record.values()) for record in records],
        "round_fields": ROUND_FIELDS,
        "rounds": rounds,
        "filters": FILTERS,
    }
    return rendered(
        "report.html",
        data,
        [figure for group in shown.values() for figure in group],
        runs=[
            _view(source, [texts[number] for texts in said.values()])
            for number, source in enumerate(sources)
        ],
        fact_names=["began", *said, "overruled", *_AXES],
        differences=set(found.differences) if found else set(),
        comparison=comparison_findings(found) if found else [],
        summaries=found.summaries if found else {},
        baseline=found.baseline if found else "",
        why_not=why_not,
        table=case_table(sources),
        filters=FILTERS,
        figures=shown,
    )


def rendered(
    template: str, data: Mapping[str, Any], figures: Sequence[Figure], /, **words: Any
) -> str:
    """A page of Vega's charts: its template with the style, the script, the charts and their data.

    Args:
        template: the name of the template.
        data: what the script reads besides the charts.
        figures: all charts of the page.
        words: what else the template takes.
    """
    whole = {**data, "config": CONFIG, "figures": [_for_script(figure) for figure in figures]}
    parts = Parts(("report.css",), ("shared.js", "report.js"), (_library(),))
    return assembled(template, parts, whole, **words)


def _compared(sources: Sequence[Source]) -> tuple[Comparison | None, str]:
    """The comparison with the first run, or the reason why there is none."""
    if len(sources) < 2:
        return None, ""
    try:
        return compare({source.name: source.run for source in sources}), ""
    except NotComparable as error:
        return None, str(error)


def _view(source: Source, facts: Sequence[str]) -> RunView:
    environment = source.run.environment
    overruled = dict(environment.get("overruled") or {})
    axes = (
        ", ".join(str(value or "default") for value in values_of(source.run, axis)) or "none"
        for axis in _AXES
    )
    names = [str(row["device_name"] or "") for row in source.rows]
    return RunView(
        name=source.name,
        machine=[line for line in machine_lines(environment, names) if line],
        facts=[
            source.run.time_utc or "not known",
            *facts,
            ", ".join(f"{name}={value}" for name, value in overruled.items()) or "none",
            *axes,
        ],
        notes=notes(source.rows),
        repeat=_repeat(source),
        findings=findings(source),
    )


def _repeat(source: Source) -> list[str]:
    """The commands that repeat a run, with its variables; empty where not known."""
    if not source.command:
        return []
    environment = source.run.environment
    set_by_user = {
        name: value
        for name, value in (variables.acted([environment])[0] or {}).items()
        if variables.DEFAULTS.get(name) != value
    }
    words = [f"{name}={shlex.quote(value)}" for name, value in set_by_user.items()]
    git = environment.get("git") or {}
    dirty = "  # it had changes that were not committed" if git.get("dirty") else ""
    checkout = [f"git checkout {git['revision']}{dirty}"] if git.get("revision") else []
    return [*checkout, " ".join([*words, source.command])]


def _for_script(figure: Figure) -> dict[str, Any]:
    kept = ("name", "spec", "columns", "control")
    return {key: value for key, value in asdict(figure).items() if key in kept}


def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, of the version that the charts are for."""
    import altair
    import vl_convert

    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    # None gives the whole bundle; the package's type annotation does not allow it.
    bundle = vl_convert.javascript_bundle(None, vl_version=version)  # type: ignore[arg-type]
    return str(bundle)
