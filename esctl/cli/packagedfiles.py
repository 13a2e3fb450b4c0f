"""What comes with `esctl` beside its code: playbooks, documents and example events.

A wheel has them in the package, a checkout beside it. Opens no file. Called by the commands that use them.
"""

from pathlib import Path
from typing import Final

import esctl
from esctl.errors import IncompleteInstallation

_PACKAGE: Final = Path(esctl.__file__).resolve().parent


def directory(name: str) -> Path:
    """The directory `playbooks`, `docs` or `examples`; raises `IncompleteInstallation`."""
    places = (_PACKAGE / name, _PACKAGE.parent / name)
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise IncompleteInstallation(f"{name} is in neither {places[0].parent} nor {places[1].parent}")
    return found


def documents() -> dict[str, Path]:
    """The documents by name: `operations` is docs/operations.md."""
    return {path.stem: path for path in sorted(directory("docs").glob("*.md"))}


def flights() -> Path:
    """The example events: departures from New York in January 2013."""
    return directory("examples") / "flights-2013-01.ndjson.gz"
