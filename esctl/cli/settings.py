"""Settings and their layers: flags, the environment, the project's file, the user's file, defaults.

Decides which value of a setting wins and remembers which ones it hides. The project's file is the nearest
`esctl.toml` in the current directory or above it, the user's is `$XDG_CONFIG_HOME/esctl/config.toml`. A key
that is not known is an error that names the nearest one. Called by `invocation.py` and `esctl config`.
"""

import json
import os
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import Any, Final, Literal

from esctl import oserror
from esctl.clusters import tomlfile
from esctl.clusters.state import check_name
from esctl.errors import InvalidSetting, MachineRefused
from esnode.dataclass import dataclass
from esnode.errors import EventStreamError

OUTPUTS: Final = ("table", "json", "plain")
CONTEXTS: Final = "contexts"
_SWITCHES: Final = {
    "1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False
}  # fmt: skip
"""What a variable that switches something may hold."""


@dataclass(frozen=True, slots=True)
class Key:
    """One setting. `kind` is bool, or str for those with words."""

    name: str
    kind: type
    help: str
    variable: str
    flag: str
    choices: tuple[str, ...] = ()


KEYS: Final = (
    Key("cluster", str, "the cluster that a command is about", "ESCTL_CLUSTER", "--cluster"),
    Key("context", str, "the context that names the cluster", "ESCTL_CONTEXT", ""),
    Key("output", str, "the form of what is printed", "ESCTL_OUTPUT", "--output", OUTPUTS),
    Key("no_color", bool, "no colours", "NO_COLOR", "--no-color"),
    Key("no_input", bool, "never ask anything", "ESCTL_NO_INPUT", "--no-input"),
)
KNOWN: Final = {key.name: key for key in KEYS}


LayerName = Literal["flag", "environment", "project", "user", "default"]


@dataclass(frozen=True, slots=True)
class SettingSource:
    """Where a value stands: in which layer, and in which file or variable."""

    layer: LayerName
    where: str

    def __str__(self) -> str:
        return self.where


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and its source; `hidden` are the others, the strongest first."""

    key: str
    value: str | bool | None
    source: SettingSource
    hidden: tuple[tuple[str | bool, SettingSource], ...] = ()


@dataclass(frozen=True, slots=True)
class Layer:
    """All that one source says."""

    source: SettingSource
    values: Mapping[str, str | bool] = field(default_factory=dict)
    contexts: Mapping[str, str] = field(default_factory=dict)
    """The cluster that each context names."""
    sources: Mapping[str, SettingSource] = field(default_factory=dict)
    """Of single values, where they differ from the layer's."""

    def source_of(self, key: str) -> SettingSource:
        """Where the value of `key` stands."""
        return self.sources.get(key, self.source)


DEFAULT: Final = SettingSource("default", "the default")


class Settings:
    """All layers, the strongest first."""

    def __init__(self, layers: tuple[Layer, ...]) -> None:
        self.layers = layers

    def get(self, key: str) -> Setting:
        """The value of a known key that wins."""
        found = [(layer.values[key], layer.source_of(key)) for layer in self.layers if key in layer.values]
        if not found:
            return Setting(key, None, DEFAULT)
        return Setting(key, *found[0], tuple(found[1:]))

    @property
    def contexts(self) -> dict[str, tuple[str, SettingSource]]:
        """The cluster of each context, and who says so."""
        return {
            name: (cluster, layer.source)
            for layer in reversed(self.layers)
            for name, cluster in layer.contexts.items()
        }

    def cluster(self) -> Setting:
        """The cluster that is named, by itself or by a context of the same or a stronger layer.

        Raises `InvalidSetting` for a context that is nowhere defined.
        """
        found: list[tuple[str | bool, SettingSource]] = []
        for layer in self.layers:
            if "cluster" in layer.values:
                found.append((layer.values["cluster"], layer.source_of("cluster")))
            elif "context" in layer.values:
                found.append(self._of_context(str(layer.values["context"]), layer.source_of("context")))
        if not found:
            return Setting("cluster", None, DEFAULT)
        return Setting("cluster", *found[0], tuple(found[1:]))

    def _of_context(self, name: str, source: SettingSource) -> tuple[str, SettingSource]:
        if name not in self.contexts:
            raise InvalidSetting(
                f"{source} names the context {name}, which is nowhere defined",
                next_step="esctl config context ls; esctl config context use NAME",
            )
        return self.contexts[name][0], SettingSource(source.layer, f"the context {name} ({source})")


def load() -> Settings:
    """The environment, the project's file and the user's. Raises `InvalidSetting`."""
    project = project_file()
    files = [SettingSource("project", str(project))] if project is not None else []
    with suppress(MachineRefused):  # no home directory, so no file in it
        if os.path.exists(user_file()):  # Path's raises where one may not look
            files.append(SettingSource("user", str(user_file())))
    return Settings((_environment(), *(_read(source) for source in files)))


def user_file() -> Path:
    """The user's file; it need not be there. Raises `MachineRefused` for a user without a home."""
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(configured) if configured.startswith("/") else oserror.home() / ".config"
    return base / "esctl" / "config.toml"


def project_file() -> Path | None:
    """The nearest `esctl.toml`, from the current directory upwards."""
    try:
        here = Path.cwd()
    except OSError:
        return None  # it was removed
    for directory in (here, *here.parents):
        if os.path.isfile(directory / "esctl.toml"):  # Path's raises where one may not look
            return directory / "esctl.toml"
    return None


def value_of(key: str, text: str) -> str | bool:
    """What `text` means as a value of `key`. Raises `InvalidSetting`."""
    known = checked(key, "the command line")
    if known.kind is bool:
        if text.lower() not in ("true", "false"):
            raise InvalidSetting(
                f"{key} is true or false, not {text!r}", next_step=f"esctl config explain {key}"
            )
        return text.lower() == "true"
    return _of_kind(known, text, "the command line")


def checked(key: str, where: str) -> Key:
    """The key of that name. Raises `InvalidSetting` that names the nearest one."""
    if key in KNOWN:
        return KNOWN[key]
    import difflib  # loaded late: `--help` must be quick

    near = difflib.get_close_matches(key, KNOWN, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InvalidSetting(
        f"{where} has the key {key!r}, which is not known; {hint}known are {', '.join(KNOWN)}"
    )


def write(path: Path, key: str, value: str | bool) -> None:
    """Set one value in a file, and leave the rest of it as it is. Raises what `tomlfile.change` does."""
    line = f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
    tomlfile.change(
        path, lambda document: tomlfile.put(document, [key], value), [tomlfile.after_the_last_key(line)]
    )


def says(path: Path, key: str) -> bool:
    """Has the file a value of that key? Raises `InvalidSetting`."""
    return path.exists() and key in _read(SettingSource("user", str(path))).values


def contexts_in(path: Path) -> Mapping[str, str]:
    """The contexts that the file defines, and the cluster of each. Raises `InvalidSetting`."""
    return _read(SettingSource("user", str(path))).contexts if path.exists() else {}


def unset(path: Path, key: str) -> None:
    """Take one value out of a file, if it is there."""

    def edit(document: MutableMapping[str, Any]) -> None:
        document.pop(key, None)

    tomlfile.change(path, edit)


def write_context(path: Path, name: str, cluster: str) -> None:
    """Define a context in a file, in place of the one of that name; the others stay."""
    table = f"[{CONTEXTS}.{json.dumps(name)}]\ncluster = {json.dumps(cluster)}\n"

    def edit(document: MutableMapping[str, Any]) -> None:
        tomlfile.put(document, [CONTEXTS, name, "cluster"], cluster)

    tomlfile.change(path, edit, [tomlfile.by_tomlkit(edit), tomlfile.at_the_end(table)])


def remove_context(path: Path, name: str) -> None:
    """Take a context out of a file, with the setting there that it is in use; the others stay."""

    def edit(document: MutableMapping[str, Any]) -> None:
        if document.get("context") == name:
            del document["context"]
        contexts = document.get(CONTEXTS, {})
        if contexts.pop(name, None) is not None and not contexts:
            del document[CONTEXTS]

    tomlfile.change(path, edit)


def _environment() -> Layer:
    values: dict[str, str | bool] = {}
    sources = {}
    for key in KEYS:
        text = os.environ.get(key.variable, "")
        if not text:
            continue
        sources[key.name] = SettingSource("environment", key.variable)
        values[key.name] = _of_variable(key, text)
    return Layer(SettingSource("environment", "the environment"), values, sources=sources)


def _of_variable(key: Key, text: str) -> str | bool:
    """NO_COLOR has no values: that it is there is what counts (no-color.org). Others mean what they say."""
    if key.kind is not bool or key.variable == "NO_COLOR":
        return key.kind is bool or _of_kind(key, text, key.variable)
    if text.lower() not in _SWITCHES:
        raise InvalidSetting(f"{key.variable} is one of {', '.join(_SWITCHES)}, not {text!r}")
    return _SWITCHES[text.lower()]


def _read(source: SettingSource) -> Layer:
    import tomli  # loaded late: most people have no such file

    try:
        document = tomli.loads(Path(source.where).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"{source} cannot be read: {error}") from error
    except tomli.TOMLDecodeError as error:
        raise InvalidSetting(f"{source} is not TOML: {error}") from error
    contexts = _contexts(document.pop(CONTEXTS, {}), source)
    return Layer(source, {name: _of_kind(checked(name, str(source)), value, str(source))
                          for name, value in document.items()}, contexts)  # fmt: skip


def _of_kind(key: Key, value: Any, where: str) -> str | bool:
    if type(value) is not key.kind or not isinstance(value, str | bool):
        wanted = "true or false" if key.kind is bool else "a text"
        raise InvalidSetting(f"{where}: {key.name} is {wanted}, not {value!r}")
    if key.choices and value not in key.choices:
        raise InvalidSetting(f"{where}: {key.name} is one of {', '.join(key.choices)}, not {value!r}")
    if key.name in ("cluster", "context"):
        try:
            check_name(str(value))
        except EventStreamError as error:
            raise InvalidSetting(f"{where}: {error}") from error
    return value


def _contexts(tables: Any, source: SettingSource) -> dict[str, str]:
    found = {}
    for name, table in tables.items() if isinstance(tables, dict) else [(CONTEXTS, tables)]:
        if not isinstance(table, dict) or set(table) != {"cluster"} or not isinstance(table["cluster"], str):
            raise InvalidSetting(f'{source}: the context {name} is a table with one key, cluster = "NAME"')
        found[name] = table["cluster"]
    return found
