"""What an action comes down to: the words after `esctl`, as a person would type them.

Pure. The cluster is never named here, nor the form of the output: who runs the command adds them. A kind
that is no command of ours (`check`, `wait`, `http`, ...) has no words. Called by the plan, the linter
and the run, so that what was planned is what is done.
"""

import shlex
from collections.abc import Iterable, Mapping
from typing import Any, Final

from esctl.playbook.schema import Action, Kind

_BENCH_OPTIONS: Final = {"strike": "kind"}
"""Where an option is not called as the argument is."""
_BACKUP_FILE: Final = {"create": "--into", "drill": "--file"}
"""Where the file is an option, not an argument."""
_NOT_OPTIONS: Final = frozenset({"mode", "background", "name"})


def command_of(action: Action) -> list[str]:
    """The words after `esctl`; empty where there is no command."""
    given = action.arguments
    match action.kind:
        case Kind.ESCTL:
            return [str(word) for word in given["argv"]]
        case Kind.FAULT:
            return _fault(given)
        case Kind.HEAL:
            return ["fault", "heal", "--all" if given.get("all") is True else str(given["fault"])]
        case Kind.BENCH:
            return _bench(given)
        case Kind.BACKUP:
            return _backup(given)
        case _:
            return []


def shown(action: Action) -> str:
    """For people: the line to type, or what is done instead of one; empty when nothing is."""
    words, given = command_of(action), action.arguments
    if words:
        return typed(["esctl", *words])
    match action.kind:
        case Kind.SHELL:
            return typed(map(str, given["argv"])) if "argv" in given else str(given["command"])
        case Kind.HTTP:
            return f"{given.get('method', 'GET')} {given['url']}"
        case _:
            return ""


def typed(words: Iterable[str]) -> str:
    """One line for a shell. What is still to be filled in stays readable."""
    return " ".join(word if word.startswith("${") else shlex.quote(word) for word in words)


def _fault(given: Mapping[str, Any]) -> list[str]:
    kind = str(given["type"])
    words = ["fault", kind]
    match kind:
        case "partition":
            words += [str(given["shape"]), *([str(given["node"])] if "node" in given else [])]
        case "net":
            words += [str(given["link"])] if "link" in given else []
        case "disk" | "clock":
            words += [str(given["how"]), str(given["node"])]
        case _:
            words += [str(given["node"])]
    placed = {"type", "shape", "node", "link", "how"}
    return words + _options({name: value for name, value in given.items() if name not in placed})


def _backup(given: Mapping[str, Any]) -> list[str]:
    action = str(given["action"])
    words = ["backup", action]
    if "file" in given:
        option = _BACKUP_FILE.get(action)
        words += [*([option] if option else []), str(given["file"])]
    words += _options({name: given[name] for name in ("name",) if name in given})
    return words + [str(word) for word in given.get("options", ())]


def _bench(given: Mapping[str, Any]) -> list[str]:
    options = {_BENCH_OPTIONS.get(n, n): value for n, value in given.items() if n not in _NOT_OPTIONS}
    if given.get("background") is True:
        return ["bench", "start", str(given.get("name", "load")), *_options(options)]
    return ["bench", str(given["mode"]), *_options(options)]


def _options(given: Mapping[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in given.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value is not False:
            words += [option, str(value)]
    return words
