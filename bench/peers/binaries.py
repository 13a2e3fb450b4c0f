"""Where the servers of the other systems are: in `build/peers` of this checkout, else on the PATH.

Decides nothing about versions; the drivers ask each binary for its own. Used by the drivers.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Final

from esctl.errors import MachineRefused

ROOT: Final = Path(__file__).resolve().parents[2]
BUILD: Final = ROOT / "build" / "peers"
UNPACKED: Final = BUILD / "unpacked"
INSTALL: Final = "make bench-peers"
PLACES: Final = (BUILD / "bin", UNPACKED / "usr/bin", UNPACKED / "usr/sbin")


def find(name: str) -> str:
    """The path of the program; raises `MachineRefused`, which says what to type."""
    for place in PLACES:
        if (place / name).is_file():
            return str(place / name)
    found = shutil.which(name)
    if found is None:
        raise MachineRefused(f"the program {name} is not here", next_step=f"{INSTALL} (it fetches {name})")
    return found


def libraries() -> dict[str, str]:
    """The environment in which an unpacked program finds the libraries that were unpacked with it."""
    places = [str(path) for path in sorted((UNPACKED / "usr/lib").glob("*-linux-gnu*"))]
    return {"LD_LIBRARY_PATH": ":".join(places)} if places else {}


def first_line(*command: str) -> str:
    """What a program prints first, as with `--version`."""
    done = subprocess.run(  # noqa: S603  # our own command lines, no shell
        command, capture_output=True, text=True, check=False, env=libraries(), timeout=30
    )
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines else "unknown"
