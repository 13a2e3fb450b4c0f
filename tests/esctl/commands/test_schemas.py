"""The schemas of the JSON answers: each command has one, each is sound, and each is as strict as it says."""

import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from esctl import schemas
from esctl.bench.result import Measurement, Result
from esctl.commands.bench.answers import ConsumeDetail, ReadFrom
from esctl.commands.schema import CommandNamesAnswer
from esctl.schemas import DRAFT
from esctl.ui.answer import Answer
from esctl.ui.plain import envelope
from tests.esctl import contract
from tests.esctl.cli.test_auditlog import COMMANDS
from tests.esctl.commands.test_commands import Run
from tests.esctl.results import CLUSTER, MACHINE

MAKER = Path(__file__).resolve().parents[3] / "docs" / "make_schemas.py"
texts: Callable[[], dict[Path, str]] = runpy.run_path(str(MAKER))["texts"]


def test_the_schemas_are_those_that_the_types_say() -> None:
    for path, text in texts().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is not current; run: make docs"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_schema_of_its_answer(command: str) -> None:
    assert schemas.file_of(command).is_file(), "give it a type: Answer[...]; then: make docs"


@pytest.mark.parametrize("command", schemas.commands())
def test_a_schema_is_sound_and_belongs_to_a_command(command: str) -> None:
    assert command in COMMANDS
    whole = schemas.of(command)
    assert whole["$schema"] == DRAFT
    Draft202012Validator.check_schema(whole)
    assert whole["properties"]["command"] == {"const": command}
    referred = set(re.findall(r'"\$ref": "([^"]*)"', json.dumps(whole)))
    assert referred <= {f"#/$defs/{name}" for name in whole["$defs"]}


def objects(part: Any) -> list[dict[str, Any]]:
    found = [one for inner in part for one in objects(inner)] if isinstance(part, list) else []
    if isinstance(part, dict):
        found = [one for inner in part.values() for one in objects(inner)]
        found += [part] if "properties" in part and part.get("type") == "object" else []
    return found


@pytest.mark.parametrize("command", schemas.commands())
def test_no_schema_allows_what_it_does_not_name(command: str) -> None:
    open_on_purpose = [{"event"}]  # a line of a log: each kind of event has fields of its own
    for one in objects(schemas.of(command)):
        assert one.get("additionalProperties") is False or set(one["required"]) in open_on_purpose, one


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"shell": "tcsh", "script": "", "install": ""}, "shell"),
        ({"shell": "bash", "script": ""}, "'install' is a required property"),
        ({"shell": "bash", "script": "", "install": "", "more": 1}, "'more' was unexpected"),
    ],
)
def test_an_answer_that_does_not_fit_is_found(data: dict[str, Any], said: str) -> None:
    with pytest.raises(AssertionError, match="does not fit its schema") as caught:
        contract.check(envelope("completion", Answer(data)))
    assert said in str(caught.value)


def misspelt() -> Answer[CommandNamesAnswer]:
    """mypy finds the misspelt field: if it did not, it would find that nothing has to be ignored."""
    return Answer({"cmds": []})  # type: ignore[typeddict-unknown-key, typeddict-item]


def misspelt_within() -> Answer[Measurement[ReadFrom, ConsumeDetail]]:
    """The same deep within an answer whose type is generic."""
    detail: ConsumeDetail = {"nod": 1}  # type: ignore[typeddict-unknown-key, typeddict-item]
    made: Result[ReadFrom, ConsumeDetail]
    made = Result("consume", {"from": "leader"}, MACHINE, CLUSTER, [], detail)
    return Answer(made.to_json())


@pytest.mark.parametrize(
    ("command", "answer", "field"),
    [("schema", misspelt(), "cmds"), ("bench consume", misspelt_within(), "nod")],
)
def test_a_misspelt_field_is_found_by_the_types_and_by_the_schema(
    command: str, answer: Answer[Any], field: str
) -> None:
    with pytest.raises(AssertionError, match=f"'{field}' was unexpected"):
        contract.checked(command, answer)


def test_a_record_that_does_not_fit_is_found() -> None:
    record = {"partition": 0, "offset": 7, "event": {"id": "1"}}
    contract.check_record("consume", record)
    with pytest.raises(ValidationError):
        contract.check_record("consume", {**record, "offset": -1})


# --- esctl schema --------------------------------------------------------------------------------


def test_a_schema_can_be_asked_for_whole_and_the_list_too() -> None:
    shown = json.loads(Run("schema", "cluster", "up").out)
    assert shown == schemas.of("cluster up")
    assert Run("schema", "cluster", "up", "-o", "json").data["schema"] == shown
    assert Run("schema").out.split("\n")[:-1] == schemas.commands()
    assert Run("schema", "cluster", "fly").code == 2
