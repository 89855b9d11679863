"""A made-up /proc and /sys."""

from __future__ import annotations

from pathlib import Path


class Machine:
    """A made-up /proc and /sys."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.proc = root / "proc"
        self.sys = root / "sys"

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def mount(self, *lines: tuple[str, str, str, str]) -> None:
        """Hierarchies: root, mount point below this machine's root, type, super options."""
        base = self.root.as_posix().replace(" ", r"\040")
        text = "".join(
            f"3{i} 24 0:2{i} {root} {base}/{point} rw,nosuid shared:9 - {kind} {kind} {options}\n"
            for i, (root, point, kind, options) in enumerate(lines)
        )
        self.write("proc/self/mountinfo", f"22 27 0:21 / /proc rw - proc proc rw\n{text}")
