"""The reason of a worker's end is what it did, and what helps against it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.launch.ending import advised, death
from bench.schema.launch import Status

LOGGED = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
To enable the following instructions: AVX2 FMA, rebuild TensorFlow with other compiler flags.
2026-01-31 12:00:00.123456: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.
E0000 00:00:1738324800.677980   17119 cuda_platform.cc:52] failed call to cuInit: UNKNOWN ERROR
"""


@pytest.mark.parametrize(
    ("code", "printed", "reason"),
    [
        (3, LOGGED, "the worker ended with code 3 (os._exit?): it printed nothing"),
        (3, f"no rate given\n{LOGGED}", "the worker ended with code 3 (os._exit?): no rate given"),
        (1, "NameError: x\n", "the worker ended with code 1: NameError: x"),
        (-6, f"{LOGGED}  what():  std::bad_alloc\n", "killed by SIGABRT: what():  std::bad_alloc"),
        (-6, "F0000 00:00:1 x.cc:1] Check failed\n", "killed by SIGABRT: F0000 00:00:1 x.cc:1]"),
        (-11, "", "killed by SIGSEGV"),
    ],
)
def test_no_line_of_tensorflows_log_stands_for_a_reason(
    tmp_path: Path, code: int, printed: str, reason: str
) -> None:
    (tmp_path / "log").write_text(printed)
    assert death(code, tmp_path / "log").reason.startswith(reason)


def test_a_model_of_the_users_own_has_a_remedy_where_it_could_not_tell() -> None:
    late = advised(Status.TIMED_OUT, "took longer than 9 s (--timeout)")
    assert late.endswith("raise --timeout, or add --steps N where a stream never ends")
    assert "smaller --batch-sizes" in advised(Status.KILLED, "killed by SIGKILL")
    assert advised(Status.FAILED, "mine") == "mine"
