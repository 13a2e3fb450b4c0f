"""What every stored format has in common: a number, and a version that does not know it leaves it alone.

Decides when a number is refused, and what is said then. The numbers themselves stand beside their formats;
docs/protocol.md ("Stored formats") lists them, and says how one is raised. Called by whatever reads back
what some version has stored.
"""

import esnode
from esnode.errors import NewerFormat


def refuse_newer(what: str, found: int, known: int, written_by: str = "") -> None:
    """Raise `NewerFormat` where `found`, the format of `what`, is a later one than `known`."""
    if found > known:
        raise newer(f"{what} is of format {found}, and this version reads up to {known}", written_by)


def newer(what: str, written_by: str = "") -> NewerFormat:
    """The error: `what` is not known here; `written_by` is the version that wrote it, where that is known."""
    writer = f"; version {written_by} wrote it" if written_by else ""
    return NewerFormat(f"{what}{writer} (this is {esnode.__version__})")
