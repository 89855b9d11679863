"""Removes host name, user name and folders from text and data.

scrubadub and Presidio do not replace it: they look for kinds of personal data in prose, such as
addresses, and do not know the names and paths of this machine.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import re
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HOST = "<host>"
USER = "<user>"
HIDDEN = "***"
_SHORTEST_HOST = 4
_NOT_IN_PATH = r"\s,;:=\"'`()\[\]{}|"
_ABSOLUTE_PATH = re.compile(
    rf"(?<![^{_NOT_IN_PATH}])(?:~|\.{{1,2}}|[A-Za-z]:)?[\\/]+[^{_NOT_IN_PATH}\\/][^{_NOT_IN_PATH}]*"
)
_ANY_PATH = re.compile(
    rf"(?:(?<![^\W_])[A-Za-z]:(?=[\\/]))?[^{_NOT_IN_PATH}\\/]*[\\/][^{_NOT_IN_PATH}]*"
)
_ONE_PATH = re.compile(r"(?:~|\.{1,2}|[A-Za-z]:)?[\\/][^,;:=]*")
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")
# What stands before the last @ of a URL may hold one that should be %40, and a space.
_PASSWORD = re.compile(r"(://[^:/?#@]*:)(?:(?!://).)*@", re.DOTALL)
_PASSWORD_WORD = re.compile(
    r"([?&;](?:ssl)?password=)[^&;]*|(\s(?:ssl)?password=)('[^']*'|\S*)", re.IGNORECASE
)
_HALF = re.compile("[\ud800-\udfff]")
_WITH_SLASH = re.compile(r"[^\s\"']*[\\/][^\s\"']*")


def scrub(value: Any) -> Any:
    """`value` without host name, user name in paths, or folder, at any depth.

    Every string goes through `scrub_text`, and then an absolute path in it is reduced to
    its base name. Dictionaries (their values; keys are kept), lists and tuples (as lists)
    are gone through, anything else comes back as it is.
    """
    if isinstance(value, str):
        return _ABSOLUTE_PATH.sub(_base_name, scrub_text(value))
    if isinstance(value, dict):
        return {key: scrub(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [scrub(item) for item in value]
    return value


def scrub_setting(text: str) -> str:
    """The value of an environment variable: as `scrub`, but stricter.

    The user name goes wherever it stands, and relative paths are reduced as well.
    """
    text = _replace(scrub_text(text), _any_case(_users()), USER)
    if _ONE_PATH.fullmatch(text):
        return re.split(r"[\\/]", text.rstrip("\\/"))[-1]
    return _ANY_PATH.sub(_base_name, text)


def legible(text: str) -> str:
    """`text` on one line, in characters that every file can hold.

    Control characters become spaces; lone surrogates become U+FFFD.
    """
    return _HALF.sub("\N{REPLACEMENT CHARACTER}", _CONTROL.sub(" ", text))


def scrub_text(text: str) -> str:
    """`text` with this machine's and this user's names taken out.

    The working folder becomes `.`, the home folder `~` (with any mix of slashes, as in a
    quoted Windows path), the user name inside a path `<user>`, and the host name, short or
    full, `<host>`: whole words only, and neither `localhost` nor a name of fewer than four
    letters, which an ordinary word could be.
    """
    for folder, sign in _folders():
        parts = r"[\\/]+".join(re.escape(part) for part in re.split(r"[\\/]+", folder))
        text = re.sub(rf"(?<![\w.~-]){parts}(?![\w-])", sign, text, flags=re.I)
    users = _users()
    with_spaces = {user for user in users if " " in user}
    text = _replace(text, _any_case(with_spaces), USER)
    names = _any_case(users - with_spaces)
    text = _WITH_SLASH.sub(lambda path: _replace(path[0], names, USER), text)
    # Any domain of two parts or more goes with it; one part alone may be a file's suffix.
    hosts = [rf"{re.escape(host)}(?:\.[\w-]+){{2,}}|{re.escape(host)}" for host in _hosts()]
    return _replace(text, hosts, HOST)


def _replace(text: str, patterns: Iterable[str], sign: str) -> str:
    """Each whole word that one of `patterns` matches becomes `sign`; signs stay."""
    joined = "|".join(patterns)
    if not joined:
        return text
    whole = re.compile(rf"{HOST}|{USER}|(?<![^\W_])(?:{joined})(?![^\W_])")
    return whole.sub(lambda found: found[0] if found[0] in (HOST, USER) else sign, text)


def _any_case(names: Iterable[str]) -> list[str]:
    return [f"(?i:{re.escape(name)})" for name in _longest_first(names)]


def _base_name(path: re.Match[str]) -> str:
    return re.split(r"[\\/]", path[0].rstrip("\\/"))[-1]


def _folders() -> list[tuple[str, str]]:
    """The working folder and the home folder, under every name, the longest first."""
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):  # The working folder may be gone.
        found[str(Path.cwd())] = "."
    if "PWD" in os.environ:
        found[os.environ["PWD"]] = "."
    for name in ("HOME", "USERPROFILE"):
        if home := os.environ.get(name):
            found[os.path.realpath(home)] = found[home] = "~"
    with contextlib.suppress(RuntimeError):  # A user without a name has no home.
        found[str(Path.home())] = "~"
    stripped = {folder.rstrip("\\/"): sign for folder, sign in found.items()}
    return [(folder, stripped[folder]) for folder in _longest_first(stripped)]


def _users() -> set[str]:
    names = {os.environ.get(name, "") for name in ("LOGNAME", "USER", "USERNAME", "SUDO_USER")}
    # A container may run under a number that has no name.
    with contextlib.suppress(ImportError, KeyError, OSError):
        names.add(getpass.getuser())
    return names - {""}


def _hosts() -> list[str]:
    """Short and full names, the longest first, in the cases that programs print."""
    known = {socket.gethostname(), platform.node()}
    known |= {os.environ.get(name, "") for name in ("HOSTNAME", "COMPUTERNAME")}
    names = {
        name
        for full in known
        if (short := full.split(".")[0]).lower() != "localhost"
        for name in (full, short)
        if len(name) >= _SHORTEST_HOST
    }
    # Not any case: the host `debian` shall leave "Debian GNU/Linux" alone.
    return _longest_first({form for name in names for form in (name, name.lower(), name.upper())})


def _longest_first(names: Iterable[str]) -> list[str]:
    return sorted((name for name in names if len(name) > 0), key=lambda n: (-len(n), n))


def without_passwords(text: str) -> str:
    """`text` with the passwords of URLs in it taken out."""
    text = _PASSWORD.sub(rf"\1{HIDDEN}@", text)
    return _PASSWORD_WORD.sub(rf"\1\2{HIDDEN}", text)
