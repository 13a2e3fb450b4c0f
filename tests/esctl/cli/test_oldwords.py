"""The words of the version before: each works, runs the command of today, and says once what it is called."""

import pytest

from esctl.cli.commandtable import ROW_BY_NAME, every_command
from esctl.cli.oldwords import OLD_TO_NEW, current, current_arguments
from esctl.playbook import commandline, commands, impact, lint, stepkinds
from esctl.playbook.schema import Action, ActionKind, Impact, Playbook, Risk, Step
from tests.esctl.cli.test_completion import completed
from tests.esctl.commands.test_commands import Run

COMMANDS = {old: new for old, new in OLD_TO_NEW.items() if " -" not in old}
OPTIONS = {old: new for old, new in OLD_TO_NEW.items() if " -" in old}
EACH = pytest.mark.parametrize(("old", "new"), COMMANDS.items(), ids=list(COMMANDS))
EACH_OPTION = pytest.mark.parametrize(("old", "new"), OPTIONS.items(), ids=list(OPTIONS))
NAMES = set(every_command())


@EACH
def test_old_words_run_the_command_that_they_are_now(old: str, new: str) -> None:
    was, now = Run(*old.split(), "--help"), Run(*new.split(), "--help")
    assert (was.code, was.out) == (0, now.out)
    assert was.err == f"`esctl {old}` is now `esctl {new}`; the old words work in this version only\n"
    assert now.err == ""


@EACH
def test_the_new_words_name_a_command_and_the_old_ones_none(old: str, new: str) -> None:
    assert any(name == new or name.startswith(f"{new} ") for name in NAMES)
    assert old not in NAMES
    assert " " in old or old not in ROW_BY_NAME


@EACH
def test_the_answer_of_old_words_has_the_new_name(old: str, new: str) -> None:
    options = {"context": ["show"], "dedup explain": ["--source", "a", "--id", "b"], "trace": ["3"]}
    run = Run("-o", "json", *old.split(), *options.get(old, []), *(["--save", "f.tgz"] * (new == "bundle")))
    assert run.document["command"] == (f"{new} show" if old == "context" else new)


@EACH_OPTION
def test_an_old_option_is_the_new_one_and_no_option_any_more(old: str, new: str) -> None:
    *path, was = old.split()
    now = new.split()[-1]
    (options,) = [one.params for name, one in every_command().items() if name.split() == path]
    spelled = {option for parameter in options for option in parameter.opts}
    assert now in spelled
    assert was not in spelled
    line, note = current([*path, "a", was, "b", f"{was}=c", "--", was])
    assert line == [*path, "a", now, "b", f"{now}=c", "--", was]
    assert note == f"`esctl {old}` is now `esctl {new}`; the old words work in this version only"
    assert current([*path, "a", now, was + "x"]) == ([*path, "a", now, was + "x"], "")


def test_an_old_option_of_an_old_command_is_understood_too() -> None:
    assert current(["debug", "bundle", "--into", "f.tgz"])[0] == ["bundle", "--save", "f.tgz"]


def test_a_wrong_line_of_old_words_is_told_the_help_of_the_new_ones() -> None:
    assert Run("health", "--wrong", "-o", "json").document["command"] == "status health"
    assert "esctl status health --help" in Run("health", "--wrong").err


def test_what_follows_old_words_stays_as_it_is() -> None:
    assert current(["trace", "trace"])[0] == ["event", "trace", "trace"]
    assert current(["dedup"]) == (["dedup"], "")
    assert current([]) == ([], "")


def test_old_words_are_completed_without_a_note() -> None:
    assert "--wait" in completed("esctl health --")
    assert completed("esctl context sh").split() == ["show"]


def test_a_step_with_old_words_runs_the_new_ones() -> None:
    action = Action(ActionKind.ESCTL, {"argv": ["trace", "--live"]})
    words = commands.command_of(action)
    assert words == ["event", "trace", "--live"]
    assert commandline.flaw_of(words) == ""
    assert impact.least_of(action) is Impact.WRITES


@pytest.mark.parametrize("words", [["--minutes", "1.5"], ["--minutes=1.5"], ["--minutes", "1.5m"]])
def test_a_number_after_an_old_option_keeps_its_unit(words: list[str]) -> None:
    line, note = current(["bench", "soak", *words, "--rate", "5"])
    assert " ".join(line).replace("=", " ") == "bench soak --duration 1.5m --rate 5"
    assert note.startswith("`esctl bench soak --minutes` is now `esctl bench soak --duration`")


OF_STEPS = {old: new for old, new in OPTIONS.items() if old.split()[0] in ("backup", "bench", "fault")}
"""The options of commands that a step of a kind of its own may be."""


@pytest.mark.parametrize(("old", "new"), OF_STEPS.items(), ids=list(OF_STEPS))
def test_an_argument_of_a_step_that_has_an_old_name_is_the_new_one(old: str, new: str) -> None:
    *path, option = old.split()
    was, now = option.removeprefix("--"), new.split()[-1].removeprefix("--")
    named, note = current_arguments(path, {"a": 1, was: "f", "z": 2})
    assert list(named.items()) == [("a", 1), (now, "f"), ("z", 2)]
    assert note == f"`{was}` of `{' '.join(path)}` is now `{now}`; the old words work in this version only"
    assert current_arguments(path, {now: "f"}) == ({now: "f"}, "")
    assert current_arguments(["node", "ls"], {was: "f"}) == ({was: "f"}, "")
    both = {was: "f", now: "g"}
    assert current_arguments(path, both) == (both, "")


@pytest.mark.parametrize(
    "given",
    [
        {"action": "create", "file": "a.tar"},
        {"action": "create", "into": "a.tar"},
        {"action": "create", "options": ["--file", "a.tar"]},
        {"action": "create", "options": ["--into=a.tar"]},
    ],
)
def test_a_backup_step_with_an_old_word_is_read_runs_the_new_one_and_is_warned_of(
    given: dict[str, object],
) -> None:
    action = Action(ActionKind.BACKUP, given)
    assert list(stepkinds.flaws(action)) == []
    assert " ".join(commands.command_of(action)).replace("=", " ") == "backup create --save a.tar"
    step = Step("a", action, Impact.WRITES, doc="d", irreversible=True)
    book = Playbook("drill", "1", "T", Risk.LOW, 60_000, (step,), doc="d")
    (finding,) = lint.lint(book)
    assert (finding.code, finding.severity) == ("old-words", "warning")
    assert "save" in finding.message
    assert finding.place == ("step", 0, "with")


def test_an_old_and_a_new_word_for_one_argument_are_refused() -> None:
    action = Action(ActionKind.BACKUP, {"action": "create", "file": "a", "save": "b"})
    assert [name for name, _ in stepkinds.flaws(action)] == ["file"]


def test_a_step_with_words_of_today_is_left_as_it_is() -> None:
    for action in (
        Action(ActionKind.BACKUP, {"action": "create", "save": "a", "options": ["--dry-run"]}),
        Action(ActionKind.ESCTL, {"argv": ["why"]}),
        Action(ActionKind.NOTE, {"text": "x"}),
    ):
        assert stepkinds.current(action) == (action, "")
