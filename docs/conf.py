"""How Sphinx builds the manual: `tox -e docs`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

project = "fmnist-bench"
extensions = ["myst_parser", "sphinx_click"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "fmnist-bench"
nitpicky = True
# The docstrings of the verbs hold options and Markdown's single backticks.
smartquotes = False
default_role = "code"
html_show_copyright = False
# Anchors of headings as GitHub makes them, so that one link works in both places.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

# Pages that include a file from outside this folder: a link to the file becomes one to its page.
INCLUDED = {
    "../SECURITY.md": "reference/security.md",
    "../results/README.md": "reference/files.md",
    "../results/evidence/README.md": "reference/evidence.md",
    "../results/evidence/sabotage.md": "explanation/sabotage.md",
    "../results/experiments.md": "explanation/experiments.md",
}


def _link_to_pages(app: Sphinx, page: str, source: list[str]) -> None:
    folder = Path(page).parent

    def to_page(found: re.Match[str]) -> str:
        """The link to the page that includes the file; other links as they are."""
        included = INCLUDED.get(os.path.normpath(folder / found[1]))
        return f"]({os.path.relpath(included, folder)}" if included else found[0]

    source[0] = re.sub(r"\]\(([^)#:\s]+\.md)", to_page, source[0])


def setup(app: Sphinx) -> None:
    """Called by Sphinx when it starts."""
    app.connect("source-read", _link_to_pages)
