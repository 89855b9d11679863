"""One try of `--find-batch`: a short launch that shows whether a batch size fits."""

from __future__ import annotations

from dataclasses import dataclass, fields

from bench.schema.launch import Status


@dataclass(frozen=True, slots=True)
class BatchTry:
    """A row of find_batch.csv.

    Attributes:
        case: id of the case, with the batch size that was tried.
        status: how the launch ended; one that ended ok fits.
        reason: one line; empty where the status is ok.
        peak_bytes: peak of the device's allocator, or the rise of the process's memory on a CPU;
            None where the launch gave none.
        seconds: from the request to the launch's end.
    """

    case: str
    batch_size: int
    status: Status
    reason: str
    peak_bytes: int | None
    seconds: float | None


TRY_COLUMNS = tuple(field.name for field in fields(BatchTry))
