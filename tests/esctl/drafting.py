"""Drafts the schema of a command from answers that it gave, for a person to go over and commit.

`ESCTL_ANSWERS=FILE python -m pytest tests/esctl/...` keeps the answers of a run of tests, and
`python -m tests.esctl.drafting FILE cluster restart` writes the draft. It cannot know what was never seen: a
value that was always null, a word that is one of a few, a map whose keys are data. Run by hand.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from esctl import schemas
from esctl.schemas import DRAFT, ENVELOPE

WIDTH: Final = 110
_JSON_TYPES: Final = {
    bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null", list: "array",
    dict: "object",
}  # fmt: skip
_SHARED_BY_NAME: Final = {
    "id": "node_id", "node": "node_id", "leader": "node_id", "seconds": "seconds", "state": "run_state",
    "data_dir": "path", "log": "path", "address": "address", "peer_address": "address",
}  # fmt: skip
_SHARED_BY_KEYS: Final = {
    frozenset(schemas.envelope()["$defs"][name]["required"]): name
    for name in ("quorum_change", "quorum", "trouble")
}


def draft(command: str, answers: Iterable[Any]) -> dict[str, Any]:
    """A schema that these answers of one command fit."""
    data = [answer["data"] for answer in answers]
    shapes: dict[str, list[Any]] = {"nothing": [], "dry": [], "done": []}
    for one in data:
        shapes["nothing" if not one else "dry" if one.get("dry_run") else "done"].append(one)
    found: list[dict[str, Any]] = [{"$ref": f"{ENVELOPE}#/$defs/nothing"}]
    found += [schema_of(seen) for name, seen in shapes.items() if seen and name != "nothing"]
    return {
        "$schema": DRAFT,
        "title": f"esctl {command} -o json",
        "$ref": ENVELOPE,
        "properties": {"command": {"const": command}, "data": {"anyOf": found}},
    }


def schema_of(values: Sequence[Any], name: str = "") -> dict[str, Any]:
    """A schema that all these values fit."""
    maps = [value for value in values if isinstance(value, dict)]
    if maps and len(maps) == len(values):
        return _object(maps)
    types = sorted({_JSON_TYPES[type(value)] for value in values})
    if "number" in types and "integer" in types:
        types.remove("integer")
    shared = _SHARED_BY_NAME.get(name)
    rest = [one for one in types if one != "null"]
    if shared is not None and rest and _fits(shared, rest):
        reference = {"$ref": f"{ENVELOPE}#/$defs/{shared}"}
        return reference if "null" not in types else {"anyOf": [reference, {"type": "null"}]}
    if maps:
        return {"anyOf": [_object(maps), *({"type": one} for one in types if one != "object")]}
    schema: dict[str, Any] = {"type": types[0] if len(types) == 1 else types}
    lists = [value for value in values if isinstance(value, list)]
    if lists:
        items = [item for value in lists for item in value]
        schema["items"] = schema_of(items) if items else {}
    if name == "dry_run":
        return {"const": True}
    return schema


def written(value: Any, depth: int = 0, taken: int = 0) -> str:
    """JSON that people read: whatever fits in a line is on one. `taken` is what stands before it there."""
    flat = json.dumps(value)
    if not value or not isinstance(value, dict | list) or 2 * depth + taken + len(flat) < WIDTH:
        return flat
    pad, end = "  " * (depth + 1), "  " * depth
    if isinstance(value, dict):
        heads = [f"{json.dumps(name)}: " for name in value]
        parts = [
            head + written(one, depth + 1, len(head)) for head, one in zip(heads, value.values(), strict=True)
        ]
        opening, closing = "{", "}"
    else:
        parts = [written(one, depth + 1) for one in value]
        opening, closing = "[", "]"
    inside = ",\n".join(pad + part for part in parts)
    return f"{opening}\n{inside}\n{end}{closing}"


def _object(maps: Sequence[dict[str, Any]]) -> dict[str, Any]:
    keys = list(dict.fromkeys(key for one in maps for key in one))
    shared = _SHARED_BY_KEYS.get(frozenset(keys))
    if shared is not None:
        return {"$ref": f"{ENVELOPE}#/$defs/{shared}"}
    return {
        "type": "object",
        "required": [key for key in keys if all(key in one for one in maps)],
        "additionalProperties": False,
        "properties": {key: schema_of([one[key] for one in maps if key in one], key) for key in keys},
    }


def _fits(shared: str, types: Sequence[str]) -> bool:
    wanted = {"node_id": {"integer"}, "seconds": {"number", "integer"}}.get(shared, {"string"})
    return set(types) <= wanted


def main(path: str, *words: str) -> None:
    """Draft the schemas of one command, or of all that have none yet."""
    answers: dict[str, list[Any]] = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        answer = json.loads(line)
        answers.setdefault(answer["command"], []).append(answer)
    known = schemas.commands()
    for command in [" ".join(words)] if words else [each for each in answers if each not in known]:
        text = written(draft(command, answers[command])) + "\n"
        schemas.file_of(command).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{schemas.file_of(command).name} is drafted: go over it\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
