"""Changes what a TOML file says, and leaves everything else in it as its author wrote it.

A change is made to the text, and taken only if another parser reads from it exactly what the same change
makes of the old values: comments, order and forms stay, and no file is left that nobody can read. The new
text is beside the file until it is whole; a link stays, and what it leads to is replaced. Called by
`esctl/cli/settings.py`, and where a node's configuration changes.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from esctl.clusters.state import make_directory
from esctl.errors import InvalidSetting, MachineRefused, Unchangeable

Edit = Callable[[MutableMapping[str, Any]], None]
"""What changes, in a mapping of what the file says."""
Draft = Callable[[str], str]
"""The same in its text; a draft that says something else is not taken."""
_CRLF: Final = "\r\n"


def change(path: Path, edit: Edit, drafts: Sequence[Draft] = ()) -> None:
    """Carry out `edit` in the file, which need not be there: the first draft that fits, or tomlkit's own.

    Several that change a file at a time wait for each other. Raises `InvalidSetting` for a file that is no
    TOML, `Unchangeable`, `MachineRefused`.
    """
    try:
        target = path.resolve()
        make_directory(target.parent)
        with _alone_in(target.parent):
            old = target.read_bytes() if target.exists() else b""
            new = _drafted(path, old, edit, [*drafts, by_tomlkit(edit)])
            if new != old:
                _replace(target, new)
    except (OSError, RuntimeError) as error:  # Python 3.11 has a RuntimeError for links that lead in a circle
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise MachineRefused(f"{path} cannot be written: {why}") from error


def put(document: MutableMapping[str, Any], names: Sequence[str], value: object) -> None:
    """Let the entry of that path be the value; the tables on the way are made."""
    for name in names[:-1]:
        document = document.setdefault(name, {})
    document[names[-1]] = value


def by_tomlkit(edit: Edit) -> Draft:
    """The draft that tomlkit makes, which knows every form there is."""

    def draft(text: str) -> str:
        import tomlkit
        from tomlkit.exceptions import TOMLKitError

        try:
            document = tomlkit.parse(text)
            edit(document)
            return tomlkit.dumps(document)
        except (TOMLKitError, KeyError) as error:
            raise ValueError(str(error)) from error

    return draft


def after_the_last_key(line: str) -> Draft:
    """A draft with one line more, below the last one that is in no table and no comment."""

    def draft(text: str) -> str:
        lines = text.splitlines(keepends=True)
        end = next((n for n, each in enumerate(lines) if each.lstrip().startswith("[")), len(lines))
        keys = [n for n, each in enumerate(lines[:end]) if each.strip() and not each.lstrip().startswith("#")]
        return "".join([*lines[: keys[-1] + 1], line, *lines[keys[-1] + 1 :]]) if keys else text

    return draft


def at_the_end(lines: str) -> Draft:
    """A draft with these lines more."""
    return lambda text: f"{text}\n{lines}"


def _drafted(path: Path, old: bytes, edit: Edit, drafts: Sequence[Draft]) -> bytes:
    """The text of the first draft that says what it should."""
    import tomli  # loaded late, as tomlkit: most commands change no file

    try:
        text = old.decode()
        windows = _CRLF in text and text.count(_CRLF) == text.count("\n")
        lines = text.replace(_CRLF, "\n") if windows else text
        before, wanted = tomli.loads(lines), tomli.loads(lines)
    except (ValueError, RecursionError) as error:
        raise InvalidSetting(f"{path} is not TOML: {error}; nothing was changed") from error
    edit(wanted)
    if wanted == before:
        return old
    for draft in drafts:
        with suppress(ValueError):  # that is what a draft comes to that does not fit, if not to other values
            drafted = draft(lines if not lines or lines.endswith("\n") else f"{lines}\n")
            if tomli.loads(drafted) == wanted:
                return (drafted.replace("\n", _CRLF) if windows else drafted).encode()
    raise Unchangeable(
        f"{path} is written in a form in which this cannot be changed without touching the rest;"
        " it was left as it is",
        next_step=f"change it by hand: {path}",
    )


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Hold the lock of the directory: it needs no file that would stay behind."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a file system that has no locks of directories
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(target: Path, content: bytes) -> None:
    """Write a new file with the old one's mode and owner, read it back, and give it the old one's name."""
    import tempfile  # loaded late: it brings `random`, and most commands change no file

    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    beside = Path(name)
    try:
        with open(descriptor, "wb") as file:
            if target.exists():
                like = target.stat()
                with suppress(PermissionError):  # only root gives files away
                    os.fchown(descriptor, like.st_uid, like.st_gid)
                os.fchmod(descriptor, like.st_mode & 0o7777)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        if beside.read_bytes() != content:
            raise MachineRefused(f"{beside} does not hold what was written to it; {target} is as it was")
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
