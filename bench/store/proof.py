"""Keeps what was found by reading a finished run in full, so that it is read in full once.

proof.json holds the SHA-256 of the run's files and of the code that read them, and the figures of
each launch. A reader computes them from the rounds again where a file or the code is another one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from bench.machine.loaded import CHECKOUT
from bench.schema.bounds import Plain, Text
from bench.schema.columns import RESULT_COLUMNS, Row
from bench.schema.runs import MeasuredRun
from bench.store.derived import read_whole
from bench.store.reader import read_json
from bench.store.run_folder import RunFolder
from bench.store.tables import write_json
from fmnist_models.errors import UserError

NAME = "proof.json"
FILES = ("plan.json", "environment.json", "launches.jsonl", "rounds.csv", "results.csv")
# The packages that read the files and compute figures.
_FOLLOWS_FROM = ("bench/analysis", "bench/schema", "bench/store")
Logs = dict[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Proof(Plain):
    """What was read, by which code, and what was found.

    Attributes:
        files: the SHA-256 of each of `FILES`.
        code: that of the modules that read them and compute figures.
        logs, scores, efficiencies, target_logs: as in `MeasuredRun`.
        own: the SHA-256 of all this, so that no damaged figure is believed.
    """

    files: dict[Text, Text]
    code: Text
    logs: Logs
    scores: Logs
    efficiencies: Logs
    target_logs: Logs
    own: Text = ""

    @property
    def digest(self) -> str:
        """What `own` must be."""
        text = json.dumps(replace(self, own="").to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def keep_proof(run: MeasuredRun) -> None:
    """Write proof.json beside the files of a run that was read in full.

    Nothing is written where the folder lacks one of the files, or cannot be written, and where
    results.csv alone does not say all that follows from the others, as that of an earlier version.
    """
    digests = _digests(run.path)
    if digests is None or repr(_rows(run.path)) != repr(dict(run.rows)):
        return
    proof = Proof(
        digests,
        _code(),
        dict(run.logs),
        dict(run.scores),
        dict(run.efficiencies),
        dict(run.target_logs),
    )
    with contextlib.suppress(OSError):
        write_json(run.path / NAME, replace(proof, own=proof.digest).to_json())


def proven(path: Path) -> MeasuredRun | None:
    """The run in the folder `path` where its proof is of these files and this code, else None.

    Raises:
        UserError: as of reading results.csv and environment.json.
    """
    try:
        found = read_json(path / NAME, Proof)
    except UserError:
        # It is worth nothing then, and the files themselves are read.
        return None
    if found is None or found[0].own != found[0].digest:
        return None
    proof = found[0]
    if proof.code != _code() or proof.files != _digests(path):
        return None
    return MeasuredRun(
        path,
        RunFolder(path).environment() or {},
        _rows(path),
        proof.logs,
        whole=partial(read_whole, path),
        scores=proof.scores,
        efficiencies=proof.efficiencies,
        target_logs=proof.target_logs,
    )


def _rows(path: Path) -> dict[str, Row]:
    """The rows of results.csv by case, each in the order of the columns."""
    return {
        row["case"]: {name: row[name] for name in RESULT_COLUMNS}
        for row in RunFolder(path).results()
    }


def _digests(path: Path) -> dict[str, str] | None:
    try:
        return {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in FILES}
    except OSError:
        return None


@cache
def _code() -> str:
    """SHA-256 of the modules on which the figures depend."""
    whole = hashlib.sha256()
    for package in _FOLLOWS_FROM:
        for file in sorted((CHECKOUT / package).glob("*.py")):
            whole.update(file.read_bytes())
    return whole.hexdigest()
