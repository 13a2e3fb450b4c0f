"""What the end of a file's name says is to be written into it.

A name without an ending, or with a number behind its last dot (`before-0.2`), says nothing. Called by the
commands that write pages, pictures and results, before they do anything.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from esctl.errors import InvalidArgument

T = TypeVar("T")


def form_of(path: Path, forms: Mapping[str, T], given: T | None = None) -> T | None:
    """The form that the name asks for, or else `given`, what an option asked for.

    Raises `InvalidArgument` for an ending that is in none of the `forms`, or that contradicts `given`.
    """
    name = path.name.lower()
    form = next((form for ending, form in forms.items() if name.endswith(ending)), None)
    if form is None:
        if not path.suffix[1:2].isalpha():
            return given
        raise InvalidArgument(f"{path} ends in none of {', '.join(forms)}; nothing was done")
    if given not in (None, form):
        raise InvalidArgument(f"{path} is no file for {given}, by its ending; nothing was done")
    return form
