"""Commands started without standard streams."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

from bench.session import streams
from bench.store.run_folder import RunFolder

CLOSED = (
    "import os, sys\nfor number in (0, 1, 2): os.close(number)\nos.execv({0!r}, [{0!r}, *{1!r}])"
)
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="descriptors are POSIX's")
RUN = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from support import quiet
from support import FAKE_WORKER
from bench import cli
from bench.machine import lock
from bench.session import run as running
from bench.launch.launcher import Launcher
tmp = Path({tmp!r})
lock.tempfile.gettempdir = lambda: str(tmp)
sys.argv[1:] = ["run", "--models", "relu_mlp", "--optimizers", "adam", "--loops", "fit",
                "--batch-sizes", "32", "--precisions", "float32", "--devices", "cpu",
                "--launches", "2", "--output", str(tmp / "run"), "--no-report"]
running.Launcher = lambda data: Launcher(FAKE_WORKER, watch=quiet.watch)
cli.main()
"""


def closed(arguments: list[str], tmp_path: Path, **environ: str) -> int:
    """Start Python as `<&- >&- 2>&-` does; its exit status."""
    code = CLOSED.format(sys.executable, arguments)
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        cwd=tmp_path,
        timeout=120,
        check=False,
    ).returncode


def test_a_run_without_streams_keeps_its_pipe_apart_from_its_log(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('[{"rounds": [0.1, 0.2, 0.3, 0.2, 0.1]}]')
    code = RUN.format(tests=str(ROOT / "tests"), tmp=str(tmp_path))
    assert closed(["-c", code], tmp_path, FAKE_WORKER_SCRIPT=str(script)) == 0
    launches = RunFolder(tmp_path / "run").launches()
    assert [launch.status for launch in launches] == ["ok", "ok"]
    assert len(RunFolder(tmp_path / "run").rounds()) == 10


@pytest.mark.parametrize("verb", ["compare", "check"])
def test_verbs_that_read_runs_do_their_work_without_streams(tmp_path: Path, verb: str) -> None:
    folder = ROOT / "results/examples/set-ups"
    runs = [str(folder / name) for name in ("one-thread", "two-threads")]
    more = [] if verb == "compare" else ["--baseline", str(folder)]
    arguments = ["-m", "bench", verb, *runs, *more, "--output", str(tmp_path / "out")]
    # Runs of one hour, and of the candidate too: nothing that check could use.
    assert closed(arguments, tmp_path) == {"compare": 0, "check": 3}[verb]
    assert (tmp_path / "out" / "comparison.csv").exists() == (verb == "compare")


def test_what_is_open_stays(capfd: pytest.CaptureFixture[str]) -> None:
    before = [os.fstat(number).st_ino for number in (0, 1, 2)], sys.stdout, sys.stderr
    streams.open_missing()
    assert ([os.fstat(number).st_ino for number in (0, 1, 2)], sys.stdout, sys.stderr) == before
