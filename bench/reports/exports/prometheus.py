"""A .prom file for the textfile collector of Prometheus's node_exporter.

Gauges in base units, without timestamps, which the collector refuses: when the run began is a gauge
of its own. Several files in one folder must differ in a label, so each series has that of the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from bench.reports.exports.figures import Export, Exported, Quantity, exported
from bench.schema.columns import Row
from bench.schema.launch import Status
from bench.schema.runs import MeasuredRun
from bench.store.files import Kind
from bench.store.tables import encoded

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily

KIND = Kind("an export of this suite in this format", b"# HELP fmnist_bench_")
_PREFIX = "fmnist_bench"
# The name of a gauge, and what it is. A gauge with an interval has two more, of its ends.
_GAUGES: Mapping[Quantity, tuple[str, str]] = {
    Quantity.THROUGHPUT: ("samples_per_second", "Samples trained per second."),
    Quantity.STEP: ("step_seconds", "Time of an optimizer update."),
    Quantity.EPOCH: ("epoch_seconds", "Time of an epoch."),
    Quantity.SCORE: ("validation_score", "Score on the validation data, after the epochs."),
    Quantity.TO_TARGET: ("time_to_target_seconds", "Training time until the target of the score."),
    Quantity.HOST_MEMORY: ("peak_host_memory_bytes", "Peak memory of the host."),
    Quantity.DEVICE_MEMORY: ("peak_device_memory_bytes", "Peak memory of the device."),
}
_OF_CASE = (
    "case",
    "model",
    "optimizer",
    "loop",
    "backend",
    "device",
    "batch_size",
    "precision",
    "replicas",
)
_ENDS = {"low": "Lower end of the 95% interval", "high": "Upper end of the 95% interval"}


def prometheus(run: MeasuredRun) -> Export:
    """The run in Prometheus's text format; cases that are left out are counted by their status.

    Raises:
        UserError: no case ended ok.
    """
    from prometheus_client import CollectorRegistry, generate_latest

    cases, left_out = exported(run)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Gauges(run, cases))
    return Export(generate_latest(registry).decode("utf-8"), left_out)


# A registry keeps its collectors by their identity.
@dataclass(frozen=True, slots=True, eq=False)
class _Gauges:
    """What prometheus_client asks for the gauges of a run."""

    run: MeasuredRun
    cases: list[Exported]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges, those without a value left out."""
        from prometheus_client.core import GaugeMetricFamily

        for what, (name, text) in _GAUGES.items():
            of_score = ("score", "better") if what is Quantity.SCORE else ()
            labels = ("label", *_OF_CASE, *of_score)
            own = [(case.row, case.figures[what]) for case in self.cases if what in case.figures]
            for end, words in (("value", text), *_ENDS.items()):
                suffix = "" if end == "value" else f"_{end}"
                about = words if end == "value" else f"{words} of {_PREFIX}_{name}."
                family = GaugeMetricFamily(f"{_PREFIX}_{name}{suffix}", about, labels=labels)
                for row, figure in own:
                    if (number := getattr(figure, end)) is not None:
                        family.add_metric(self._values(row, labels), number)
                if family.samples:
                    yield family
        yield self._counted()
        yield from self._began()

    def _values(self, row: Row, labels: tuple[str, ...]) -> list[str]:
        values = {**row, "label": self.run.label}
        return [encoded(str(values[name])).decode("utf-8") for name in labels]

    def _counted(self) -> GaugeMetricFamily:
        from prometheus_client.core import GaugeMetricFamily

        counts = Counter(str(row["status"]) for row in self.run.rows.values())
        text = "Cases of the run by how they ended; figures are of those that ended ok."
        family = GaugeMetricFamily(f"{_PREFIX}_cases", text, labels=("label", "status"))
        for status in Status:
            family.add_metric([self.run.label, str(status)], counts[status])
        return family

    def _began(self) -> Iterator[GaugeMetricFamily]:
        from prometheus_client.core import GaugeMetricFamily

        if self.run.time_utc:
            text = "When the run began, in seconds since 1970."
            name = f"{_PREFIX}_run_timestamp_seconds"
            family = GaugeMetricFamily(name, text, labels=("label",))
            began = datetime.fromisoformat(self.run.time_utc)
            family.add_metric([self.run.label], began.timestamp())
            yield family
