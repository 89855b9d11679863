"""How programs end: exit codes, signals, closed and full streams, defects."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from support import ROOT

from bench.schema.errors import ExitCode, NotComparable
from bench.session import ending
from fmnist_models.errors import UserError

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes are POSIX's")
BEGIN = """
import os, sys, time, click
from bench.session.ending import run_program
from bench.schema.errors import UserError
"""


@pytest.fixture(autouse=True)
def signals_as_usual() -> Iterator[None]:
    """Programs here obey each signal, though the tests themselves may run under `nohup`."""
    names = [name for name in ("SIGTERM", "SIGHUP", "SIGINT") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), signal.SIG_DFL) for name in names}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


End = Callable[..., tuple[int, bytes, str]]


@pytest.fixture
def end(tmp_path: Path) -> End:
    """Runs a program whose verb is the given code; returns code, output and errors."""

    def run(
        body: str,
        stdout: IO[bytes] | int = subprocess.PIPE,
        stderr: IO[bytes] | int = subprocess.PIPE,
        **variables: str,
    ) -> tuple[int, bytes, str]:
        verb = "\n".join(f"    {line}" for line in body.strip().splitlines())
        code = f"{BEGIN}def verb():\n{verb}\nrun_program('prog', verb)"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(tmp_path), **variables},
            stdout=stdout,
            stderr=stderr,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout or b"", (done.stderr or b"").decode()

    return run


def test_a_defect_is_code_4_one_line_and_a_file_with_the_traceback(
    end: End, tmp_path: Path
) -> None:
    code, _, said = end("{}['status']")
    assert code == ExitCode.DEFECT == 4
    (file,) = tmp_path.glob("fmnist-bench-*.txt")
    line = f"prog: error: a defect of this suite: KeyError: 'status'; please report it with the traceback in {file}\n"  # noqa: E501
    assert said == line
    assert "Traceback (most recent call last)" in file.read_text()


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (UserError("--epochs 0: no"), 2, "error: --epochs 0: no"),
        (NotComparable("other images"), 3, "error: other images"),
        (FileNotFoundError(2, "No such file or directory", "/x"), 2, "error: /x: No such file"),
        (MemoryError(), 2, "error: there is not enough memory"),
        (
            ModuleNotFoundError("No module named 'pandas'", name="pandas"),
            2,
            "error: No module named 'pandas': install what it needs again",
        ),
        (ImportError("cannot import name 'x'", name="bench.schema.case"), 4, "error: a defect"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (SystemExit(3), 3, ""),
    ],
)
def test_each_end_has_its_code_and_its_line(
    capsys: pytest.CaptureFixture[str], raised: Any, code: int, words: str
) -> None:
    def verb() -> None:
        raise raised

    with pytest.raises(SystemExit) as ended:
        ending.run_program("prog", verb)
    assert ended.value.code == code
    said = capsys.readouterr().err
    assert said.startswith(f"prog: {words}") if words else said == ""
    assert said.count("\n") <= 1


@POSIX
@pytest.mark.parametrize(
    "printing",
    [
        "print('x' * 100_000, flush=True)",
        "print('x')",
        "click.echo('x' * 100_000)",
        "from rich.console import Console\nConsole().print('x ' * 9_000, highlight=False)",
    ],
)
def test_a_closed_pipe_is_code_141_without_a_word(end: End, printing: str) -> None:
    read, write = os.pipe()
    os.close(read)
    code, _, said = end(f"{printing}\nreturn 1", stdout=write)
    os.close(write)
    assert (code, said) == (141, "")


@POSIX
def test_the_closed_pipe_of_a_click_command_is_141_as_well(
    end: End,
) -> None:
    read, write = os.pipe()
    os.close(read)
    body = """
@click.command()
def verb():
    click.echo('x' * 100_000)
return verb(args=[], standalone_mode=False)
"""
    code, _, said = end(body, stdout=write)
    os.close(write)
    assert (code, said) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("printing", ["print('x')", "print('x', flush=True)", "click.echo('x')"])
def test_a_full_disk_under_stdout_is_code_2_and_one_line(end: End, printing: str) -> None:
    with Path("/dev/full").open("wb") as full:
        code, _, said = end(f"{printing}\nreturn 0", stdout=full)
    assert code == 2
    assert said == (
        "prog: error: cannot write to standard output: No space left on device; what was to be "
        "kept is on disk\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_under_stderr_changes_no_code(
    end: End,
) -> None:
    with Path("/dev/full").open("wb") as full:
        assert end("raise UserError('no')", stderr=full)[0] == 2


def test_what_stdout_cannot_encode_is_replaced(
    end: End,
) -> None:
    code, out, said = end("print('café \\udcff 패션')", PYTHONIOENCODING="ascii")
    assert (code, out.strip(), said) == (0, b"caf? ? ??", "")
    code, _, said = end("raise UserError('café \\udcff')", PYTHONIOENCODING="utf-8")
    assert (code, said) == (2, "prog: error: café ?\n")


# Makes a file at its end, after so many seconds.
ORDERLY = f"""{BEGIN}
def verb():
    try:
        print('ready', flush=True)
        time.sleep(60)
    finally:
        time.sleep(float(sys.argv[2]))
        open(sys.argv[1], 'w').close()
run_program('prog', verb)"""


@POSIX
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_ends_in_good_order_and_with_its_code(
    tmp_path: Path, name: str, code: int
) -> None:
    command = [sys.executable, "-c", ORDERLY, str(tmp_path / "orderly"), "0"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(getattr(signal, name))
        _, said = child.communicate(timeout=60)
    assert (child.returncode, said) == (code, b"prog: interrupted\n")
    assert (tmp_path / "orderly").exists()


BLOCKED = f"""{BEGIN}
def verb():
    os.write(2, b'ready')
    {{how}}
run_program('prog', verb)"""


@POSIX
@pytest.mark.parametrize("how", ["print('x' * 1_000_000)", "print('x' * 100_000); return 0"])
@pytest.mark.parametrize("names", [["SIGTERM"], ["SIGTERM"] * 3, ["SIGHUP", "SIGTERM", "SIGHUP"]])
def test_a_signal_ends_a_program_whose_reader_stands_still(how: str, names: list[str]) -> None:
    command = [sys.executable, "-c", BLOCKED.replace("{how}", how)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stderr is not None
        assert child.stderr.read(5) == b"ready"
        # Until the pipe is full.
        time.sleep(0.3)
        for name in names:
            child.send_signal(getattr(signal, name))
            time.sleep(0.05)
        assert child.wait(20) == 128 + getattr(signal, names[0])
        assert child.stderr.read() == b"prog: interrupted\n"


@POSIX
def test_a_signal_after_the_ending_does_not_replace_the_exit_code() -> None:
    """As on a busy machine, on which a second signal arrives while the interpreter shuts down."""
    verb = (
        "import atexit, os, signal\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))\n"
        f"{BEGIN}\ndef verb():\n    os.kill(os.getpid(), signal.SIGTERM)\nrun_program('prog', verb)"
    )
    done = subprocess.run(
        [sys.executable, "-c", verb], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (143, "prog: interrupted\n")


@POSIX
def test_a_second_signal_does_not_break_off_what_ends_in_good_order(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ORDERLY, str(tmp_path / "orderly"), "0.5"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        for name in ("SIGHUP", "SIGTERM", "SIGHUP"):
            child.send_signal(getattr(signal, name))
            time.sleep(0.05)
        assert child.wait(20) == 129
    assert (tmp_path / "orderly").exists()


@pytest.mark.parametrize(
    ("breaks", "code", "line"),
    [
        ("raise ImportError('no msgspec')", 2, "fmnist-bench: error: no msgspec: install"),
        ("raise MemoryError", 2, "fmnist-bench: error: there is not enough memory"),
        ("raise RuntimeError('half written')", 4, "it cannot be imported: RuntimeError: half"),
    ],
)
def test_what_cannot_be_imported_is_no_regression(
    tmp_path: Path, breaks: str, code: int, line: str
) -> None:
    (tmp_path / "msgspec.py").write_text(breaks)
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--version"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code
    assert line in done.stderr.splitlines()[-1]


@POSIX
def test_a_signal_that_whoever_started_the_program_ignores_stays_ignored(tmp_path: Path) -> None:
    """`nohup fmnist-bench run` goes on when its terminal has gone."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending.orderly_stops() as stops:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
        assert stops.number is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("module", ["bench", "bench.evidence", "bench.peers", "bench.peers.parity"])
def test_every_program_of_the_suite_ends_through_the_same_function(module: str) -> None:
    """Wrong use is 2 everywhere; that no traceback shows is what the others lack."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--no-such-option"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
