"""What tells who and where is taken out, and nothing else."""

from __future__ import annotations

import platform
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.machine.redact import scrub, scrub_setting, scrub_text

USER_VARIABLES = ("LOGNAME", "USER", "LNAME", "USERNAME")


class Identity:
    """Plants a made-up person and machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.user("zoe")
        self.host("torrent.lab.example.org")
        self.home("/home/zoe")
        self.working_folder("/srv/trials/keras")
        monkeypatch.delenv("SUDO_USER", raising=False)

    def user(self, name: str) -> None:
        for variable in USER_VARIABLES:
            self._monkeypatch.setenv(variable, name)

    def host(self, name: str) -> None:
        self._monkeypatch.setattr(socket, "gethostname", lambda: name)
        self._monkeypatch.setattr(platform, "node", lambda: name)
        for variable in ("HOSTNAME", "COMPUTERNAME"):
            self._monkeypatch.delenv(variable, raising=False)

    def home(self, folder: str) -> None:
        for variable in ("HOME", "USERPROFILE"):
            self._monkeypatch.setenv(variable, folder)

    def working_folder(self, folder: str) -> None:
        self._monkeypatch.setattr(Path, "cwd", lambda: Path(folder))
        self._monkeypatch.setenv("PWD", folder)


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> Identity:
    return Identity(monkeypatch)


class TestText:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("no such file: /home/zoe/data/x.gz", "no such file: ~/data/x.gz"),
            ("cd /home/zoe", "cd ~"),
            ("in '/srv/trials/keras/bench/case.py', line 3", "in './bench/case.py', line 3"),
            ("file:///home/zoe/x", "file:~/x"),
            # Not the home folder, but the user all the same.
            ("/mnt/home/zoe/x", "/mnt/home/<user>/x"),
            ("/home/zoe-old/x", "/home/<user>-old/x"),
            ("/tmp/bazel_zoe/zoe/x", "/tmp/bazel_<user>/<user>/x"),
            ("zoe/x", "<user>/x"),
            # Neither the folder nor the user.
            ("/home/zoey/x", "/home/zoey/x"),
            ("zoe is a word here", "zoe is a word here"),
            # The host, short and full, in the cases in which programs print it.
            ("hostname: torrent", "hostname: <host>"),
            ("grpc://torrent.lab.example.org:8470", "grpc://<host>:8470"),
            ("torrent.other.example.com", "<host>"),
            ("tfevents.17.torrent.log", "tfevents.17.<host>.log"),
            ("TORRENT_1", "<host>_1"),
            ("torrents and Torrent", "torrents and Torrent"),
            ("", ""),
        ],
    )
    def test_example(self, identity: Identity, text: str, expected: str) -> None:
        assert scrub_text(text) == expected

    @pytest.mark.parametrize("host", ["cpu", "localhost", "localhost.localdomain", "vm", ""])
    def test_a_host_called_like_a_word_is_left(self, identity: Identity, host: str) -> None:
        identity.host(host)
        text = "the cpu of localhost, localhost.localdomain, on a vm"
        assert scrub_text(text) == text

    def test_the_full_name_of_a_host_with_a_short_name(self, identity: Identity) -> None:
        identity.host("vm.example.org")
        assert scrub_text("vm is vm.example.org") == "vm is <host>"

    def test_the_system_keeps_its_name_on_a_host_called_after_it(self, identity: Identity) -> None:
        identity.host("debian")
        assert scrub_text("Debian GNU/Linux 12 on debian") == "Debian GNU/Linux 12 on <host>"

    def test_the_host_that_only_the_shell_knows(
        self, identity: Identity, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COMPUTERNAME", "DESKTOP-7Q2")
        assert scrub_text("on desktop-7q2") == "on <host>"

    @pytest.mark.parametrize(
        "text",
        [
            r"C:\Users\Zoe Smith\data\x.gz",
            r"c:\users\zoe smith\data\x.gz",
            "C:/Users/Zoe Smith/data/x.gz",
        ],
    )
    def test_a_windows_home(self, identity: Identity, text: str) -> None:
        identity.home(r"C:\Users\Zoe Smith")
        identity.user("Zoe Smith")
        assert scrub_text(text).replace("\\", "/") == "~/data/x.gz"
        assert "Smith" not in scrub_text(repr(text))

    def test_a_user_with_a_space_elsewhere(self, identity: Identity) -> None:
        identity.user("Zoe Smith")
        assert scrub_text("D:/of Zoe Smith/x") == "D:/of <user>/x"

    @pytest.mark.parametrize("folder", ["/", ""])
    def test_no_home_to_speak_of(self, identity: Identity, folder: str) -> None:
        identity.home(folder)
        identity.working_folder("/")
        assert scrub_text("a / b /usr/lib") == "a / b /usr/lib"

    def test_a_working_folder_inside_the_home(self, identity: Identity) -> None:
        identity.working_folder("/home/zoe/keras")
        assert scrub_text("/home/zoe/keras/x /home/zoe/y") == "./x ~/y"

    def test_a_removed_working_folder(
        self, identity: Identity, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def gone() -> Path:
            raise FileNotFoundError("the working folder")

        monkeypatch.setattr(Path, "cwd", gone)
        assert scrub_text("/home/zoe/x") == "~/x"

    def test_a_user_without_a_name(
        self, identity: Identity, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unknown() -> str:
            raise KeyError("getpwuid(): uid not found: 4711")

        for variable in USER_VARIABLES:
            monkeypatch.delenv(variable)
        monkeypatch.setattr("getpass.getuser", unknown)
        assert scrub_text("/data/zoe on torrent") == "/data/zoe on <host>"

    @pytest.mark.parametrize(("user", "host"), [("user", "host"), ("host", "user")])
    def test_signs_are_not_taken_for_names(self, identity: Identity, user: str, host: str) -> None:
        identity.user(user)
        identity.host(host)
        text = scrub_text(f"/data/{user}/x on {host}")
        assert scrub_text(text) == text


class TestValue:
    def test_absolute_paths_become_base_names(self, identity: Identity) -> None:
        software = {
            "cpu_compiler": "/usr/lib/llvm-18/bin/clang",
            "flags": ["--prefix=/opt/tf/", "-O2", r"C:\cuda\bin\nvcc.exe"],
            "cache": "/home/zoe/.cache/xla",
            "deep": ({"log": "./logs/x.txt"},),
        }
        assert scrub(software) == {
            "cpu_compiler": "clang",
            "flags": ["--prefix=tf", "-O2", "nvcc.exe"],
            "cache": "xla",
            "deep": [{"log": "x.txt"}],
        }

    @pytest.mark.parametrize("value", ["Debian GNU/Linux 12", "12.5.1", "a / b", "~", 3, 0.5, None])
    def test_anything_else_stays(self, identity: Identity, value: Any) -> None:
        assert scrub(value) == value

    def test_keys_stay(self, identity: Identity) -> None:
        identity.host("tensorflow")
        assert scrub({"tensorflow": "2.21.0"}) == {"tensorflow": "2.21.0"}

    @settings(deadline=None)
    @given(st.text(alphabet="zoe torn/\\:=.~<>-_C", max_size=40))
    def test_twice_is_once(self, text: str) -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            Identity(monkeypatch)
            once = scrub(text)
            assert scrub(once) == once


class TestSetting:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (
                "--xla_gpu_cuda_data_dir=/usr/local/cuda --xla_dump_to=/home/zoe/dump/",
                "--xla_gpu_cuda_data_dir=cuda --xla_dump_to=dump",
            ),
            ("/home/zoe", "~"),
            ("/data/zoe", "<user>"),
            ("zoe", "<user>"),
            ("run-of-zoe", "run-of-<user>"),
            ("trials/first/x", "x"),
            ("/mnt/My Documents/x y", "x y"),
            (r"D:\caches\xla", "xla"),
            (r"--a=D:\caches\xla,b", "--a=xla,b"),
            ("torrent", "<host>"),
            ("GPU-3f2c9d1e-0000-4444-8888-123456789abc,1", None),
            ("1", None),
            ("", None),
        ],
    )
    def test_example(self, identity: Identity, text: str, expected: str | None) -> None:
        assert scrub_setting(text) == (text if expected is None else expected)


def test_the_real_user_and_folders_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PWD", "HOME", "USERPROFILE"):
        monkeypatch.delenv(variable, raising=False)
    inside = Path.cwd() / "tests" / "x.py"
    assert scrub_text(inside.as_posix()) == "./tests/x.py"
