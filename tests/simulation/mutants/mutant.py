"""A planted bug: which module it changes, and how; and the loader that puts it there.

A mutant is a small patch of a module's source, applied while the module is imported: nothing on disk
changes, and only the process that planted it has the bug. Never imports the product itself, so it can be
planted before anything else is loaded. Used by `trial.py` and the catalogue's test.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from types import CodeType, ModuleType

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class Edit:
    """`new` in place of `old` in a module.

    Where both are one line, any part of a line is replaced. Otherwise whole lines are, at whatever
    depth they stand.
    """

    module: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug. `source` is a line of the bugs that real systems shipped (`#7`), or where else it is known
    from; `bug` says in one sentence what the node does wrong; `tier` is the simulation that must see it.

    Tier "T" is for what takes the simulation more than 200 seeds, because too much has to come together:
    `test` is the scripted test that must fail instead.
    """

    name: str
    source: str
    bug: str
    tier: str
    edits: tuple[Edit, ...]
    test: str = ""


class NotPlanted(Exception):
    """The text to be replaced is not in the source, or is there more than once."""


def source_of(module: str) -> str:
    """The source text of a module of this repository, as it is on disk."""
    return (ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8")


def edited(source: str, edit: Edit) -> str:
    """`source` with the bug in it; raises `NotPlanted`."""
    old, new = dedent(edit.old).strip("\n"), dedent(edit.new).strip("\n")
    if "\n" not in old and "\n" not in new:
        pattern, replacement = re.escape(old), new
        found = list(re.finditer(pattern, source))
    else:
        found = list(re.finditer(_lines(old), source, re.MULTILINE))
        replacement = ""
    if len(found) != 1:
        raise NotPlanted(f"{edit.module}: {len(found)} places, not one, hold {old!r}")
    begin, end = found[0].span()
    if not replacement:
        indent = found[0].group("indent")
        replacement = "\n".join(f"{indent}{line}" if line else "" for line in new.split("\n"))
    return source[:begin] + replacement + source[end:]


def _lines(text: str) -> str:
    first, *others = text.split("\n")
    pattern = rf"^(?P<indent>[ ]*){re.escape(first)}"
    for line in others:
        pattern += "\n" + (rf"(?P=indent){re.escape(line)}" if line else "")
    return pattern + "$"


def mutated(mutant: Mutant) -> dict[str, str]:
    """The sources of the modules that `mutant` changes, with the bug in them; raises `NotPlanted`."""
    sources: dict[str, str] = {}
    for edit in mutant.edits:
        before = sources.get(edit.module) or source_of(edit.module)
        sources[edit.module] = edited(before, edit)
    return sources


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module from a text instead of its file; no cached byte code is read or written."""

    def __init__(self, module: str, path: str, text: str) -> None:
        super().__init__(module, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._text, self.path, "exec", dont_inherit=True)


class Garden(importlib.abc.MetaPathFinder):
    """Finds the modules that a mutant changes before anybody else does."""

    def __init__(self, mutant: Mutant) -> None:
        self._sources = mutated(mutant)
        self._loaded: set[str] = set()

    def plant(self) -> None:
        """From now on the modules are imported with the bug. None of them may be loaded yet."""
        loaded = sorted(self._sources.keys() & sys.modules.keys())
        if loaded:
            raise NotPlanted(f"loaded already: {', '.join(loaded)}")
        sys.meta_path.insert(0, self)

    @property
    def never_loaded(self) -> list[str]:
        """Modules with the bug in them that nobody has imported."""
        return sorted(self._sources.keys() - self._loaded)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The import system's question."""
        if fullname not in self._sources:
            return None
        self._loaded.add(fullname)
        file = str(ROOT / (fullname.replace(".", "/") + ".py"))
        loader = _Loader(fullname, file, self._sources[fullname])
        return importlib.util.spec_from_file_location(fullname, file, loader=loader)
