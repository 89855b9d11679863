"""What the layout promises and no linter holds: sizes, who writes, and what stays out."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

MOST_LINES, MOST_IN_A_FUNCTION, MOST_PARAMETERS, MOST_UNFORMATTED = 350, 59, 6, 10
PRODUCT = sorted(
    [
        *(file for top in ("bench", "fmnist_models") for file in (ROOT / top).rglob("*.py")),
        ROOT / "fmnist_bench.py",
        ROOT / "fmnist_bench_pytest.py",
    ]
)
PACKAGES = sorted(file for file in PRODUCT if file.name == "__init__.py")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# Evidence torments files on purpose; the others write what is no file of a run or a profile.
MAY_WRITE = {
    "bench/api/": "temporary folders, removed with what they hold",
    "bench/evidence/": "tables of evidence, and what the torture damages",
    "bench/store/": "the one package that writes",
    "bench/launch/channel.py": "the log that a child prints into",
    "bench/session/blocks.py": "a block's row, appended as it was measured",
    "bench/session/ending.py": "the traceback of a defect",
    "bench/session/setups.py": "what the user's command prints",
    "bench/session/traces.py": "the profiler's own files",
    "bench/peers/parity.py": "a table of the evidence kind",
    "bench/peers/turns.py": "a temporary folder, for what the peers print",
    "bench/worker/": "the channel, the memory's reset, and the profiler's own files",
    "fmnist_bench_pytest.py": "a temporary folder, for what a process of its own is asked",
    "fmnist_models/dataset.py": "IDX files, for tests and duels on fewer images",
}
WRITES = {"mkdtemp", "mkstemp", "NamedTemporaryFile", "TemporaryDirectory", "TemporaryFile"}


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))


def functions(file: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree_of(file)) if isinstance(node, FUNCTIONS))


def opened_to_write(call: ast.Call) -> bool:
    """Whether a call makes a temporary file, or opens a file in a mode that writes."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in WRITES:
        return True
    modes = [*call.args, *(word.value for word in call.keywords if word.arg == "mode")]
    texts = [mode.value for mode in modes if isinstance(mode, ast.Constant)]
    return name in ("open", "fdopen") and any(
        isinstance(text, str) and set(text) <= set("rwabxt+") and set(text) & set("wax+")
        for text in texts
    )


@pytest.mark.parametrize("file", PRODUCT, ids=name_of)
def test_no_module_is_too_long_to_read(file: Path) -> None:
    assert len(file.read_text("utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("file", PRODUCT, ids=name_of)
def test_no_function_is_too_long_or_takes_too_much(file: Path) -> None:
    for node in functions(file):
        assert node.end_lineno is not None
        assert node.end_lineno - node.lineno < MOST_IN_A_FUNCTION, node.name
        taken = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        # What click makes of a command line are options, each with its own line of help.
        if not any("click" in ast.unparse(mark) for mark in node.decorator_list):
            own = [argument for argument in taken if argument.arg not in ("self", "cls")]
            assert len(own) <= MOST_PARAMETERS, node.name


@pytest.mark.parametrize("file", PRODUCT, ids=name_of)
def test_files_are_written_where_the_layout_says(file: Path) -> None:
    if not name_of(file).startswith(tuple(MAY_WRITE)):
        calls = [node for node in ast.walk(tree_of(file)) if isinstance(node, ast.Call)]
        assert [call.lineno for call in calls if opened_to_write(call)] == []


@pytest.mark.parametrize("file", PRODUCT, ids=name_of)
def test_nothing_of_tests_and_no_names_of_others(file: Path) -> None:
    tree = tree_of(file)
    imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [
        a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names
    ]
    assert not [name for name in imported if name.partition(".")[0] in ("unittest", "tests")]
    assert "__all__" not in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


@pytest.mark.parametrize("framework", ["tensorflow", "jax", "torch"])
def test_a_framework_is_imported_in_its_own_folders_alone(framework: str) -> None:
    """Evidence and peers, which compare frameworks, import what they compare."""
    own = (f"bench/worker/{framework}/", f"fmnist_models/loops/{framework}/")
    free = (*own, "bench/evidence/", "bench/peers/")
    found = [
        name_of(file)
        for file in PRODUCT
        if not name_of(file).startswith(free)
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [*(a.name for a in node.names), getattr(node, "module", None) or ""]
        if name.partition(".")[0] == framework and not getattr(node, "level", 0)
        if not (isinstance(node, ast.ImportFrom) and name != node.module)
    ]
    assert found == []


@pytest.mark.parametrize("file", PACKAGES, ids=name_of)
def test_a_package_says_in_five_lines_what_it_is_for(file: Path) -> None:
    told = ast.get_docstring(tree_of(file)) or ""
    assert 1 <= len(told.splitlines()) <= 5


def test_the_formatter_is_switched_off_for_a_few_tables_alone() -> None:
    marked = [
        file
        for file in (*PRODUCT, *(ROOT / "tests").rglob("*.py"))
        for line in file.read_text("utf-8").splitlines()
        if line.endswith("# fmt: " + "skip")
    ]
    assert len(marked) <= MOST_UNFORMATTED


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest imports them by their names alone, and refuses the second of one name."""
    names = Counter(file.name for file in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, times in names.items() if times > 1] == []


def test_what_would_break_a_rule_is_seen() -> None:
    def written(text: str) -> bool:
        call = ast.parse(text).body[0]
        assert isinstance(call, ast.Expr)
        assert isinstance(call.value, ast.Call)
        return opened_to_write(call.value)

    assert written("file.open('a')")
    assert written("open(name, mode='wb')")
    assert written("tempfile.mkdtemp()")
    assert not written("file.open()")
    assert not written("open(name, 'rb')")
