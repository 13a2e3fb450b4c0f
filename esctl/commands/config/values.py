"""`esctl config`: what is set, where each value comes from, and setting one, or not any more.

Flags win over the environment, that over the project's `esctl.toml`, that over the user's file.
"""

from pathlib import Path
from typing import Annotated, Final, Literal, NotRequired, TypedDict

import typer

from esctl.cli import settings
from esctl.cli.arguments import DryRun
from esctl.cli.invocation import Invocation
from esctl.cli.settings import LayerName, Setting, Settings
from esctl.ui.answer import Answer, Cell, Fields, Line, Table, Tone, Value
from esctl.ui.values import FilePath

KeyArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        help="Name of the setting",
        autocompletion=lambda incomplete: [name for name in settings.KNOWN if name.startswith(incomplete)],
    ),
]
Project = Annotated[
    bool, typer.Option("--project", help="Change the project's esctl.toml instead of your own file")
]
PROJECT_FILE: Final = "esctl.toml"

_From = TypedDict("_From", {"from": str})


class HiddenData(_From):
    """A value that another one comes before."""

    value: str | bool
    layer: LayerName


class SettingData(_From):
    """A setting, its value, and where that comes from."""

    key: str
    value: str | bool | None
    layer: LayerName
    hides: list[HiddenData]


class SettingFiles(TypedDict):
    """The files of settings; null where there is no project."""

    project: FilePath | None
    user: FilePath


class SettingsAnswer(TypedDict):
    """Every setting."""

    settings: list[SettingData]
    files: SettingFiles


class SettingAnswer(SettingData):
    """A setting, and how it can be set."""

    help: str
    ways: list[str]


class SetAnswer(TypedDict):
    """A value that was set, or would be."""

    key: str
    value: str | bool
    file: FilePath
    dry_run: NotRequired[Literal[True]]


class UnsetAnswer(TypedDict):
    """A setting whose value was taken out of a file, or would be."""

    key: str
    file: FilePath
    was_set: bool
    dry_run: NotRequired[Literal[True]]


def show(run: Invocation) -> Answer[SettingsAnswer]:
    """Show every setting, its value, and the source of the value"""
    found = [_effective(run.settings, key) for key in settings.KNOWN]
    project = settings.project_file()
    data: SettingsAnswer = {
        "settings": [_data(setting) for setting in found],
        "files": {"project": str(project) if project else None, "user": str(settings.user_file())},
    }
    rows: list[list[Value]] = [[s.key, _shown(s.value), _where(s), settings.KNOWN[s.key].help] for s in found]
    return Answer(data, [Table(["key", "value", "from", "what it is"], rows)])


def explain(run: Invocation, key: KeyArgument) -> Answer[SettingAnswer]:
    """Show where the value of a setting comes from, and which other values it overrides"""
    known = settings.checked(key, "the command line")
    setting = _effective(run.settings, key)
    files = [f"{key} in {PROJECT_FILE}", f"{key} in {settings.user_file()}"]
    ways = [way for way in (known.flag, known.variable, *files) if way]
    data: SettingAnswer = {**_data(setting), "help": known.help, "ways": ways}
    pairs: list[tuple[str, Value]] = [
        (key, _shown(setting.value)),
        ("what it is", known.help),
        ("from", _where(setting)),
    ]
    pairs += [("hides", f"{_text(value)} from {source}") for value, source in setting.hidden]
    pairs.append(("can be set by", ", ".join(ways)))
    return Answer(data, [Fields(pairs)])


def put(
    run: Invocation,
    key: KeyArgument,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="New value")],
    project: Project = False,
    dry_run: DryRun = False,
) -> Answer[SetAnswer]:
    """Change a setting in your own configuration file, or in the project's esctl.toml"""
    wanted = settings.value_of(key, value)
    path = file_of(project=project)
    if not dry_run:
        settings.write(path, key, wanted)
    data: SetAnswer = {"key": key, "value": wanted, "file": str(path)}
    if dry_run:
        return Answer({**data, "dry_run": True}, [Line(f"would set {key} to {_text(wanted)} in {path}")])
    now = _effective(settings.load(), key)
    if now.source.where != str(path):
        run.terminal.warn(f"{key} is {_text(now.value)} all the same: {now.source} says so, and comes first")
    return Answer(data, [Line(f"{key} is {_text(wanted)} in {path}", Tone.GOOD)])


def unset(
    run: Invocation, key: KeyArgument, project: Project = False, dry_run: DryRun = False
) -> Answer[UnsetAnswer]:
    """Remove a setting from your own configuration file, or from the project's esctl.toml"""
    settings.checked(key, "the command line")
    path = file_of(project=project)
    there = settings.says(path, key)
    data: UnsetAnswer = {"key": key, "file": str(path), "was_set": there}
    if dry_run:
        verb = "would take" if there else "nothing to take:"
        return Answer({**data, "dry_run": True}, [Line(f"{verb} {key} out of {path}")])
    settings.unset(path, key)
    now = _effective(settings.load(), key)
    what = f"{key} is no longer in {path}" if there else f"{key} was not in {path}"
    return Answer(data, [Line(what, Tone.GOOD), Fields([("now", f"{_text(now.value)}, from {now.source}")])])


def file_of(*, project: bool) -> Path:
    """The file that is written to."""
    if not project:
        return settings.user_file()
    return settings.project_file() or Path.cwd() / PROJECT_FILE


def _effective(found: Settings, key: str) -> Setting:
    """The value of `key`; a context names a cluster, too."""
    return found.cluster() if key == "cluster" else found.get(key)


def _data(setting: Setting) -> SettingData:
    return {
        "key": setting.key,
        "value": setting.value,
        "layer": setting.source.layer,
        "from": setting.source.where,
        "hides": [
            {"value": value, "layer": source.layer, "from": source.where} for value, source in setting.hidden
        ],
    }


def _where(setting: Setting) -> str:
    return setting.source.where


def _text(value: str | bool | None) -> str:
    return "not set" if value is None else str(value).lower() if isinstance(value, bool) else value


def _shown(value: str | bool | None) -> Cell:
    return Cell(_text(value), Tone.DIM if value is None else Tone.STRONG)
