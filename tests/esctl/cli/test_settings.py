"""Settings: which layer wins, what it hides, where that is said; and contexts, which name clusters."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from esctl.cli import settings
from esctl.cli.auditlog import MACHINE, AuditLog
from esctl.cli.invocation import SHARED_WORDS
from esctl.errors import InvalidSetting
from tests.esctl.commands.test_commands import Run
from tests.esctl.conftest import FakeNodes


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory two levels below the one where a project's file may be."""
    here = tmp_path / "project" / "a" / "b"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    return tmp_path / "project"


def user(text: str) -> Path:
    path = settings.user_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def explained(key: str, *words: str) -> tuple[object, str, list[object]]:
    """The value that wins, its layer, and those that it hides."""
    data = Run("config", "explain", key, "-o", "json", *words).data
    return data["value"], data["layer"], [hidden["value"] for hidden in data["hides"]]


@pytest.mark.parametrize(
    ("text", "meant"),
    [("0", False), ("false", False), ("no", False), ("1", True), ("TRUE", True), ("on", True)],
)
def test_a_variable_that_switches_something_means_what_it_says(
    monkeypatch: pytest.MonkeyPatch, text: str, meant: bool
) -> None:
    monkeypatch.setenv("ESCTL_NO_INPUT", text)
    monkeypatch.setenv("NO_COLOR", "0")
    assert settings.load().get("no_input").value is meant
    assert settings.load().get("no_color").value is True, "that it is there is what counts"


def test_a_variable_that_switches_something_takes_no_other_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESCTL_NO_INPUT", "perhaps")
    with pytest.raises(InvalidSetting, match="ESCTL_NO_INPUT is one of"):
        settings.load()


def test_flags_beat_the_environment_and_that_the_project_and_that_the_user(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert explained("cluster") == (None, "default", [])
    user('cluster = "of-user"\n')
    assert explained("cluster") == ("of-user", "user", [])
    (project / "esctl.toml").write_text('cluster = "of-project"\n')
    assert explained("cluster") == ("of-project", "project", ["of-user"])
    monkeypatch.setenv("ESCTL_CLUSTER", "of-shell")
    assert explained("cluster") == ("of-shell", "environment", ["of-project", "of-user"])
    hidden = ["of-shell", "of-project", "of-user"]
    assert explained("cluster", "-c", "of-flag") == ("of-flag", "flag", hidden)


def test_a_flag_before_the_command_beats_the_environment_too(
    make_fakes: Callable[..., FakeNodes], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_fakes("one")
    make_fakes("two")
    monkeypatch.setenv("ESCTL_CLUSTER", "one")
    assert Run("--cluster", "two", "node", "ls", "-o", "json").data["name"] == "two"


def test_the_output_form_may_be_set_for_good(fakes: FakeNodes) -> None:
    user('output = "json"\nno_color = true\n')
    assert Run("node", "ls").data["name"] == "fake"
    assert "\tdown\t" in Run("node", "ls", "-o", "plain").unpadded


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('clustre = "x"\n', "did you mean cluster?"),
        ("no_color = 1\n", "no_color is true or false, not 1"),
        ('output = "yaml"\n', "output is one of table, json, plain"),
        ('cluster = "a/b"\n', "cannot name a cluster"),
        ("cluster = \n", "is not TOML"),
        ("[contexts.prod]\nserver = 1\n", "the context prod is a table with one key"),
    ],
)
def test_a_file_that_makes_no_sense_is_named_and_nothing_is_done(text: str, message: str) -> None:
    path = user(text)
    run = Run("version", "-o", "json")
    assert run.code == 2
    (error,) = run.document["errors"]
    assert error["code"] == "ES4121"
    assert message in error["message"]
    assert str(path) in error["message"]


def test_a_wrong_value_of_a_variable_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESCTL_OUTPUT", "yaml")
    run = Run("version")
    assert run.code == 2
    assert "ESCTL_OUTPUT: output is one of" in run.err


def test_a_cluster_that_is_not_there_is_said_to_come_from_where_it_does(fakes: FakeNodes) -> None:
    path = user('cluster = "gone"\n')
    (error,) = Run("status", "-o", "json").document["errors"]
    assert error["message"].endswith(f"{path} names it")
    assert error["next"].startswith("esctl config explain cluster")
    (flagged,) = Run("status", "-c", "lost", "-o", "json").document["errors"]
    assert "names it" not in flagged["message"]


def test_setting_a_value_keeps_the_rest_of_the_file(project: Path) -> None:
    path = user('# mine\noutput = "plain"  # for scripts\n\n[contexts.prod]\ncluster = "p"\n')
    assert Run("config", "set", "cluster", "drill", "-n").code == 0
    assert "drill" not in path.read_text()
    assert Run("config", "set", "cluster", "drill", "-o", "json").data["file"] == str(path)
    assert (
        path.read_text()
        == '# mine\noutput = "plain"  # for scripts\ncluster = "drill"\n\n[contexts.prod]\ncluster = "p"\n'
    )
    assert Run("config", "set", "cluster", "other").code == 0
    assert Run("config", "set", "no_color", "true").code == 0
    found = settings.load()
    assert (found.get("cluster").value, found.get("no_color").value) == ("other", True)
    assert Run("config", "set", "--project", "cluster", "ours").code == 0
    assert Path("esctl.toml").read_text() == 'cluster = "ours"\n'
    assert [entry.command for entry in AuditLog(MACHINE).entries()] == ["config set"] * 4


def test_setting_what_something_stronger_hides_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESCTL_CLUSTER", "stronger")
    run = Run("config", "set", "cluster", "weaker")
    assert run.code == 0
    assert "cluster is stronger all the same: ESCTL_CLUSTER says so" in run.err


def test_a_setting_that_is_not_known_cannot_be_set_or_explained() -> None:
    for words in (["set", "clustr", "x"], ["explain", "clustr"], ["set", "no_color", "maybe"]):
        assert Run("config", *words).code == 2


def test_every_setting_is_shown_even_when_nothing_is_set() -> None:
    shown = Run("config", "show", "-o", "json").data
    assert [one["key"] for one in shown["settings"]] == list(settings.KNOWN)
    assert shown["files"]["project"] is None


# --- contexts ------------------------------------------------------------------------------------


def test_a_context_in_use_names_the_cluster_of_every_command(make_fakes: Callable[..., FakeNodes]) -> None:
    make_fakes("blue")
    make_fakes("green")
    for name in ("blue", "green"):
        assert Run("config", "context", "add", f"my-{name}", "--to", name).code == 0
    assert Run("node", "ls").code == 2
    assert Run("config", "context", "use", "my-green", "-o", "json").data["cluster"] == "green"
    assert Run("node", "ls", "-o", "json").data["name"] == "green"
    assert Run("node", "ls", "-c", "blue", "-o", "json").data["name"] == "blue"
    listed = Run("config", "context", "ls", "-o", "json").data["contexts"]
    assert [(one["name"], one["cluster"], one["used"]) for one in listed] == [
        ("my-blue", "blue", False),
        ("my-green", "green", True),
    ]
    assert Run("config", "context", "show", "-o", "json").data["cluster"] == "green"
    assert Run("config", "context", "add", "my-green", "--to", "blue").code == 0
    assert Run("node", "ls", "-o", "json").data["name"] == "blue"


def test_a_context_that_nobody_defined_cannot_be_used(fakes: FakeNodes) -> None:
    assert Run("config", "context", "use", "nowhere").code == 2
    assert Run("config", "context", "add", "x", "--to", "nowhere").code == 1
    user('context = "nowhere"\n')
    run = Run("node", "ls", "-o", "json")
    assert run.code == 2
    assert "names the context nowhere" in run.document["errors"][0]["message"]
    assert Run("config", "context", "ls").code == 0


def test_a_cluster_set_beside_a_context_wins_over_it_and_that_is_said(
    make_fakes: Callable[..., FakeNodes],
) -> None:
    make_fakes("blue")
    make_fakes("green")
    user('cluster = "blue"\n')
    Run("config", "context", "add", "g", "--to", "green")
    run = Run("config", "context", "use", "g")
    assert "commands are about blue all the same" in run.err


def test_a_file_is_read_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    monkeypatch.delitem(sys.modules, "tomli")
    settings.load()
    assert "tomli" not in sys.modules


def test_a_relative_directory_of_settings_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert settings.user_file() == Path.home() / ".config" / "esctl" / "config.toml"


def test_a_value_is_checked_before_it_is_written() -> None:
    with pytest.raises(InvalidSetting):
        settings.value_of("output", "yaml")
    assert settings.value_of("no_input", "True") is True


def test_the_flag_of_a_setting_is_one_of_the_options_of_every_command() -> None:
    flags = {key.name: key.flag for key in settings.KEYS if key.flag}
    assert flags == {name: SHARED_WORDS[name][0] for name in flags}


def test_a_directory_that_is_gone_or_may_not_be_looked_into_has_no_file(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.stat", refused)
    assert settings.project_file() is None
    assert settings.load().get("cluster").value is None
    monkeypatch.undo()
    monkeypatch.chdir(project / "a" / "b")
    (project / "a" / "b").rmdir()
    assert settings.project_file() is None


def test_defining_a_context_again_keeps_the_others(fakes: FakeNodes) -> None:
    for name in ("prod", "dev", "test", "prod"):
        assert Run("config", "context", "add", name, "--to", "fake").code == 0
    assert [one["name"] for one in Run("config", "context", "ls", "-o", "json").data["contexts"]] == [
        "dev",
        "prod",
        "test",
    ]


def test_a_context_is_removed_and_no_longer_in_use(fakes: FakeNodes) -> None:
    for name in ("prod", "dev"):
        Run("config", "context", "add", name, "--to", "fake")
    Run("config", "context", "use", "prod")
    assert Run("config", "context", "rm", "prod", "--dry-run").code == 0
    path = Path(Run("config", "context", "rm", "prod", "-o", "json").data["file"])
    assert list(settings.contexts_in(path)) == ["dev"]
    assert Run("config", "context", "show", "-o", "json").data["context"] is None
    gone = Run("config", "context", "rm", "prod", "-o", "json")
    assert gone.code == 2
    assert "there is no context prod in" in gone.document["errors"][0]["message"]
    assert fakes.cluster.directory.exists()


def test_a_context_that_another_layer_uses_still_is_warned_of(
    fakes: FakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run("config", "context", "add", "prod", "--to", "fake")
    monkeypatch.setenv("ESCTL_CONTEXT", "prod")
    removed = Run("config", "context", "rm", "prod")
    assert removed.code == 0
    assert "ESCTL_CONTEXT names it still; next: unset ESCTL_CONTEXT" in removed.err


def test_a_setting_is_taken_out_and_what_counts_then_is_said(project: Path) -> None:
    path = user('output = "plain" # for scripts\nno_color = true\n')
    (project / "esctl.toml").write_text("no_color = false\n")
    assert Run("config", "unset", "output", "-n", "-o", "json").data["was_set"] is True
    assert Run("config", "unset", "output", "-o", "json").data["was_set"] is True
    assert Run("config", "unset", "output", "-o", "json").data["was_set"] is False
    assert path.read_text() == "no_color = true\n"
    assert "esctl.toml" in Run("config", "unset", "no_color").out
    assert Run("config", "unset", "no_color", "--project").code == 0
    assert settings.load().get("no_color").value is None
    assert Run("config", "unset", "colour").code == 2
