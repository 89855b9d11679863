"""Puts a page together and writes it: one file, without network, with all texts escaped."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from bench.store.files import PAGE
from bench.store.tables import write_text
from fmnist_models.errors import UserError

_FILES = files("bench.reports.page") / "files"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a page is made of besides its template.

    Attributes:
        styles: names of its style sheets, in order.
        scripts: names of the files of its script, in order.
        libraries: the texts of scripts of others, which come first.
    """

    styles: tuple[str, ...]
    scripts: tuple[str, ...]
    libraries: tuple[str, ...] = ()


def assembled(template: str, parts: Parts, data: Any, /, **words: Any) -> str:
    """A page of one file: its template with styles, scripts and data.

    Args:
        template: the name of the template.
        parts: its styles and scripts.
        data: what the script reads; without NaN, which JSON does not know.
        words: what else the template takes.
    """
    import jinja2

    # `</script` in a library would end the script element; at present none has such a text.
    scripts = [text.replace("</script", "<\\/script") for text in parts.libraries]
    scripts.append("\n".join(map(_read, parts.scripts)))
    # All texts are escaped except styles, scripts and data; `_json` escapes the data.
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        style="\n".join(map(_read, parts.styles)),
        scripts=scripts,
        hashes=[_hash(script) for script in scripts],
        data=_json(data),
        **words,
    )


def write_page(file: Path, text: str) -> None:
    """Write a page, and its folder where that is missing.

    Raises:
        UserError: something else than a page is there, or it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, text, PAGE)
    except OSError as error:
        raise UserError(
            f"cannot write {file}: {error.strerror or error}; name another --output"
        ) from error


def _read(name: str) -> str:
    return (_FILES / name).read_text("utf-8")


def _hash(script: str) -> str:
    """The hash of a script in the page's content security policy; no other script may run."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _json(value: Any) -> str:
    """JSON that is safe inside a script element, whatever texts it holds."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
