"""Files of settings that people wrote: one thing changes, and all else stays as it was, in whatever form."""

import os
import re
import threading
from collections.abc import Callable, MutableMapping
from pathlib import Path

import pytest
import tomli

from esctl.cli import settings
from esctl.cli.settings import remove_context, unset, write, write_context
from esctl.clusters import tomlfile
from esctl.errors import InvalidSetting, MachineRefused, Unchangeable

TEXTS = [
    "",
    "# only a comment",
    '"output" = "plain"\n',
    "output = 'plain' # mine",
    '# mine\n\n\toutput="plain"\n\n\n# about contexts\n[contexts.prod]\ncluster = "x"\n',
    '[contexts.prod]\ncluster = "x"',
    '[contexts.prod]  # ours\ncluster = "x" # why\n# end\n',
    '[contexts]\nprod = { cluster = "x" }\n',
    '[contexts]\n\n  [contexts.prod]\n  cluster = "x"\n',
    "[contexts]\n",
    "contexts = {}\n",
    'contexts = { prod = { cluster = "x" } } # short\noutput = "json"\n',
    '"contexts" = { "prod" = { "cluster" = "x" }, dev = { cluster = "y" } }\n',
    'contexts.prod.cluster = "x"\n',
    'contexts.prod.cluster = "x"\noutput = "plain"\n',
    'contexts.prod = { cluster = "x" }\noutput="json"\nno_color = true # dark\n',
    '[contexts]\nprod.cluster = "x"\n# tail\n',
    "'contexts'.'prod'.cluster = 'x'",
    '[contexts."prod"]\ncluster="x"\n\n[contexts.dev]\ncluster = "z" # dev\n',
    '[contexts.prod]\n"cluster" = """x"""\n[contexts."a.b"]\ncluster = "z"\n\n\n',
    '# head\r\noutput = "plain"\r\n\r\n[contexts."a.b"]\r\ncluster = "y"\r\n',
    '# mixed\r\noutput = "plain"\n[contexts.prod]\ncluster = "y"\n',
]
CHANGES: list[tuple[str, Callable[[Path], None], Callable[[dict], object]]] = [  # type: ignore[type-arg]
    ("set", lambda p: write(p, "output", "table"), lambda d: d.update(output="table")),
    ("set new", lambda p: write(p, "no_input", True), lambda d: d.update(no_input=True)),
    (
        "define",
        lambda p: write_context(p, "prod", "h3a"),
        lambda d: d.setdefault("contexts", {}).update(prod={"cluster": "h3a"}),
    ),
    (
        "define new",
        lambda p: write_context(p, "a.c", "h3a"),
        lambda d: d.setdefault("contexts", {}).update({"a.c": {"cluster": "h3a"}}),
    ),
    ("remove", lambda p: remove_context(p, "prod"), lambda d: d.get("contexts", {}).pop("prod", None)),
    ("unset", lambda p: unset(p, "output"), lambda d: d.pop("output", None)),
]


def comments(text: str) -> list[str]:
    return re.findall(r"#.*", text.replace("\r", ""))


@pytest.mark.parametrize("what", [name for name, _, _ in CHANGES])
@pytest.mark.parametrize("text", TEXTS)
def test_one_thing_is_changed_and_all_else_is_said_as_before(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(text.encode())
    path.chmod(0o640)
    ((change, wanted),) = [(change, wanted) for name, change, wanted in CHANGES if name == what]
    after = tomli.loads(text)
    wanted(after)
    change(path)
    now = path.read_bytes().decode()
    found = tomli.loads(now)
    assert {k: v for k, v in found.items() if v != {}} == {k: v for k, v in after.items() if v != {}}
    if what not in ("remove", "unset"):  # a comment goes only with the line or the table that it is about
        assert comments(now) == comments(text)
    assert ("\r\n" in text) is ("\r\n" in now)
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in tmp_path.iterdir()] == ["config.toml"]
    settings._read(settings.SettingSource("user", str(path)))


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_so_already_is_not_written_again(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(text.encode())
    before = path.stat()
    remove_context(path, "nobody")
    unset(path, "cluster")
    assert path.read_bytes() == text.encode()
    assert path.stat().st_ino == before.st_ino


def test_a_link_stays_and_what_it_leads_to_is_changed(tmp_path: Path) -> None:
    target = tmp_path / "dotfiles" / "esctl.toml"
    target.parent.mkdir()
    target.write_text('output = "plain" # mine\n')
    link = tmp_path / "config.toml"
    link.symlink_to(tmp_path / "second")
    (tmp_path / "second").symlink_to(target)
    write(link, "no_color", True)
    assert link.is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert target.read_text() == 'output = "plain" # mine\nno_color = true\n'


def test_a_link_that_leads_nowhere_gets_its_file_and_one_in_a_circle_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "config.toml"
    link.symlink_to(tmp_path / "new" / "esctl.toml")
    write(link, "output", "json")
    assert link.read_text() == 'output = "json"\n'
    assert link.resolve().stat().st_mode & 0o777 == 0o600
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    with pytest.raises(MachineRefused, match="cannot be written"):
        write(circle, "output", "json")


def test_many_that_change_one_file_at_a_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('output = "plain"\n')
    threads = [threading.Thread(target=write_context, args=(path, f"c{n}", "h3a")) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(tomli.loads(path.read_text())["contexts"]) == {f"c{n}" for n in range(16)}


def test_a_draft_that_says_something_else_is_never_written(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('output = "plain"\n')

    def edit(document: MutableMapping[str, object]) -> None:
        document["cluster"] = "one" if type(document) is dict else "two"  # as a library with a bug would

    with pytest.raises(Unchangeable, match="left as it is"):
        tomlfile.change(path, edit, [lambda text: text + "[[", lambda text: text + 'cluster = "three"\n'])
    assert path.read_text() == 'output = "plain"\n'
    tomlfile.change(path, edit, [lambda text: text + 'cluster = "one"\n'])
    assert path.read_text() == 'output = "plain"\ncluster = "one"\n'


@pytest.mark.parametrize("text", [b"[[", b"\xff\xfe", b'\xef\xbb\xbfoutput = "plain"\n'])
def test_a_file_that_is_no_toml_is_left_as_it_is(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(text)
    with pytest.raises(InvalidSetting, match="is not TOML"):
        write(path, "output", "json")
    assert path.read_bytes() == text


def test_a_file_that_could_not_be_written_whole_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.toml"
    path.write_text('output = "plain"\n')

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineRefused, match="No space left on device"):
        write(path, "output", "json")
    assert path.read_text() == 'output = "plain"\n'
    assert [each.name for each in tmp_path.iterdir()] == ["config.toml"]
