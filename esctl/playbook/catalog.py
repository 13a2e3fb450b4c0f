"""Where playbooks are found: those that are shipped, and those in `./playbooks`, each by its id.

A file is named for the id of its playbook. What lies in the working directory comes before what is shipped:
who changes a copy means that copy. Opens no file. Called by the commands of `esctl playbook`.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from esctl.cli.packagedfiles import directory
from esctl.playbookerrors import PlaybookNotFound

SUFFIX: Final = ".toml"


def shipped() -> Path:
    """The directory of the playbooks that came with `esctl`."""
    return directory("playbooks")


def own() -> Path:
    """The directory of those that the operator has here."""
    return Path("playbooks")


def shipped_ones() -> dict[str, Path]:
    """Those that came with `esctl`, by id."""
    return {path.stem: path for path in sorted(shipped().glob(f"*{SUFFIX}"))}


def every() -> dict[str, Path]:
    """All that are found, by id."""
    found = shipped_ones()
    if own().resolve() != shipped():
        found |= {path.stem: path for path in sorted(own().glob(f"*{SUFFIX}"))}
    return dict(sorted(found.items()))


def find(name: str) -> Path:
    """The file of an id, or the file that is named itself; raises `PlaybookNotFound`."""
    path = Path(name)
    if path.is_file():
        return path
    known = every()
    if name in known:
        return known[name]
    if name.endswith(SUFFIX) or "/" in name:
        raise PlaybookNotFound(f"there is no file {name}")
    raise PlaybookNotFound(f"no playbook is called {name}{_near(name, known)}")


def find_shipped(name: str) -> Path:
    """The file of a shipped playbook, whatever lies in `./playbooks`; raises `PlaybookNotFound`."""
    known = shipped_ones()
    if name not in known:
        raise PlaybookNotFound(f"no shipped playbook is called {name}{_near(name, known)}")
    return known[name]


def _near(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""
