"""The inputs of a playbook: what the operator gave as words, and the file as defaults, as typed values.

Every input that is missing, unknown or of a wrong type is named at once. A secret is read from a file or from
standard input and never from a command line. Called by the reader, the plan and the run.
"""

import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, assert_never

from esctl.errors import InvalidArgument
from esctl.playbook import nodechoice
from esctl.playbook.schema import Input, InputType, Playbook, Scalar
from esctl.playbookerrors import InvalidInput
from esctl.ui.duration import Duration

TAKES: Final = {
    InputType.NODE: "the number of a node, `leader` or `any-follower`, chosen when the run begins",
    InputType.INT: "a whole number",
    InputType.DURATION: "a duration such as `30s`",
    InputType.ENUM: "one of its `choices`",
    InputType.STRING: "a text",
    InputType.SECRET: "a text that is never shown; given as `NAME=@FILE`, or as `NAME=@-` for standard input",
}
"""What an input of each type may be, for the reference."""
MAX_SECRET_BYTES: Final = 64 * 1024


def take(playbook: Playbook, given: Mapping[str, str]) -> dict[str, Scalar]:
    """A value for each input, from `--input NAME=VALUE` or its default; raises `InvalidInput`."""
    specs = {spec.name: spec for spec in playbook.inputs}
    wrong, values = [], dict[str, Scalar]()
    for name in given:
        if name not in specs:
            near = get_close_matches(name, specs, 1)
            known = f"did you mean {near[0]}?" if near else f"there are: {', '.join(specs) or 'none'}"
            wrong.append(f"{name} is not known; {known}")
    for name, spec in specs.items():
        try:
            if name in given:
                values[name] = of_text(spec, given[name])
            elif spec.default is not None:
                values[name] = spec.default
            else:
                wrong.append(f"{name} is missing: add --input {name}=... ({spec.help or spec.type})")
        except InvalidInput as error:
            wrong.append(str(error))
    if wrong:
        raise InvalidInput(
            f"{playbook.id}: {'; '.join(wrong)}", next_step=f"esctl playbook show {playbook.id}"
        )
    return values


def of_text(spec: Input, text: str) -> Scalar:
    """The value that a word of the command line means; raises `InvalidInput`."""
    match spec.type:
        case InputType.NODE if text in nodechoice.WORDS:
            return text
        case InputType.NODE | InputType.INT:
            try:
                return typed(spec, int(text))
            except ValueError:
                raise _no_number(spec, text) from None
        case InputType.SECRET:
            return _secret(spec, text)
        case _:
            return typed(spec, text)


def typed(spec: Input, value: Any) -> Scalar:
    """A value of a file as one of the input's type; raises `InvalidInput`."""
    match spec.type:
        case InputType.NODE if value in nodechoice.WORDS:
            return str(value)
        case InputType.INT | InputType.NODE:
            if not isinstance(value, int) or isinstance(value, bool):
                raise _no_number(spec, value)
            if spec.type is InputType.NODE and value < 1:
                raise InvalidInput(f"{spec.name} must be the number of a node, not {value}")
            return value
        case InputType.DURATION:
            try:
                return Duration.parse(value) if isinstance(value, str) else _no_duration(spec, value)
            except InvalidArgument as error:
                raise InvalidInput(f"{spec.name}: {str(error).removesuffix('; nothing was done')}") from None
        case InputType.ENUM:
            if value not in spec.choices:
                raise InvalidInput(f"{spec.name} must be one of {', '.join(spec.choices)}, not {value!r}")
            return str(value)
        case InputType.STRING | InputType.SECRET:
            if not isinstance(value, str) or not value:
                raise InvalidInput(f"{spec.name} must be a text, not {value!r}")
            return value
        case _:
            assert_never(spec.type)


def _no_number(spec: Input, value: Any) -> InvalidInput:
    what = "a whole number"
    if spec.type is InputType.NODE:
        what = f"the number of a node, {' or '.join(nodechoice.WORDS)}"
    return InvalidInput(f"{spec.name} must be {what}, not {value!r}")


def _no_duration(spec: Input, value: Any) -> Scalar:
    raise InvalidInput(f'{spec.name} must be a duration such as "30s", not {value!r}')


def _secret(spec: Input, text: str) -> str:
    if not text.startswith("@"):
        raise InvalidInput(
            f"{spec.name} is a secret: give it as {spec.name}=@FILE, or {spec.name}=@- for standard input"
        )
    try:
        if text == "@-":
            content = sys.stdin.read(MAX_SECRET_BYTES + 1)
        else:
            with Path(text[1:]).open(encoding="utf-8") as file:
                content = file.read(MAX_SECRET_BYTES + 1)
        content.encode()  # standard input may hold bytes that are no text
    except (OSError, UnicodeError) as error:
        raise InvalidInput(f"{spec.name}: {text[1:]} cannot be read: {error}") from error
    if len(content) > MAX_SECRET_BYTES:
        raise InvalidInput(f"{spec.name}: {text[1:]} is over {MAX_SECRET_BYTES:,} bytes")
    if not content.strip():
        raise InvalidInput(f"{spec.name}: {text[1:]} is empty")
    return content.rstrip("\r\n")
