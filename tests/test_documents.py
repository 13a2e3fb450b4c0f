"""What the documents say is so: paths, functions, commands, keys, defaults, figures, links.

A document that names something which is not there is a bug like any other. What a document promises of the
behaviour is tested beside the code; here is what can be looked up.
"""

import ast
import dataclasses
import importlib
import re
import runpy
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import tomli

from esctl.cli.commandtable import find
from esctl.cli.invocation import Invocation, SharedOptions
from esctl.cli.oldwords import current
from esctl.commands.explain import explain
from esctl.observe.timeline.moments import KNOWN, LEFT_OUT
from esnode import config, limits
from esnode.client.producer import MAX_GIVEN_UP
from esnode.client.subscription import STALE_MS
from esnode.dedup.keywindow import GENERATIONS
from esnode.errors import declared
from esnode.loop import rolechanges
from tests.command_line import parse, without_unit
from tests.documents import DOCUMENTS, ROOT, Document, document

each_document = pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
PLACES = ("esnode/", "esctl/", "tests/", "docs/", "examples/", "bench/", "playbooks/", ".ci/")
SUFFIXES = (".py", ".md", ".toml", ".lock", ".gz", ".svg")
NO_PATHS = {
    "esctl/",  # below XDG_STATE_HOME
    "esctl/config.toml",  # below XDG_CONFIG_HOME
    "esctl.toml",  # a project's
    "esctl/v1",  # the schema of the JSON output
    "esctl/trace",  # the source of a probe
    "esctl/commands/NAME.py",  # a file to be made
    "bench/results",  # made by `make bench`
}


# --- paths and functions ------------------------------------------------------------------------


@each_document
def test_every_path_that_a_document_names_is_there(page: Document) -> None:
    named = [span for span in page.spans() if span.startswith(PLACES) or span.endswith(SUFFIXES)]
    paths = [span for span in named if " " not in span and span not in NO_PATHS and not span.startswith("/")]
    for path in paths:
        beside = page.path.parent / path
        assert beside.exists() or any(ROOT.glob(path)) or any(ROOT.glob(f"es*/**/{path}")), path


@each_document
def test_every_link_of_a_document_leads_somewhere(page: Document) -> None:
    for link in page.links():
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.path.parent / path).resolve() if path else page.path
        assert target.is_file(), link
        assert not anchor or anchor in Document(target).anchors(), link


def test_every_document_can_be_reached_from_the_first_page() -> None:
    linked = {(ROOT / link).resolve() for link in document("README.md").links() if "://" not in link}
    assert {page.path for page in DOCUMENTS} - linked == {ROOT / "README.md"}


def defines(path: Path, name: str) -> bool:
    """Whether the module at `path` has the class or function `name`, or the method `Class.name`."""
    scope: ast.Module | ast.ClassDef = ast.parse(path.read_text(encoding="utf-8"))
    *owners, last = name.split(".")
    for owner in owners:
        found = [node for node in scope.body if isinstance(node, ast.ClassDef) and node.name == owner]
        if not found:
            return False
        scope = found[0]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return any(isinstance(node, kinds) and node.name == last for node in scope.body)


@each_document
def test_every_function_that_a_document_places_is_in_its_file(page: Document) -> None:
    for path, name in re.findall(r"`([\w/]+\.py)` `([A-Za-z_][\w.]*)`", page.text):
        assert defines(ROOT / path, name), f"{path} has no {name}"


def test_the_walk_of_a_batch_names_a_function_at_each_step() -> None:
    steps = document("ARCHITECTURE.md").rows("The path of one batch")
    assert [step[0] for step in steps] == [str(n) for n in range(1, len(steps) + 1)]
    assert all(re.fullmatch(r"`[\w/]+\.py` `[\w.]+`", step[1]) for step in steps)


def contents_of(folder: Path) -> set[Path]:
    """The modules and packages that stand directly in it."""
    inside = [one for one in folder.iterdir() if one.name[0] != "_" or one.name == "__main__.py"]
    return {one for one in inside if one.suffix == ".py" or (one / "__init__.py").is_file()}


def test_the_map_shows_every_package_and_module_and_no_other() -> None:
    (drawn,) = document("ARCHITECTURE.md").fences("")
    shown: dict[Path, set[Path]] = {}
    folders: list[Path] = []  # from the repository down to the last line's
    for line in drawn.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = []
        for name in re.findall(r"(?:^|(?<=  )|(?<=\.py ))(?:[a-z_]\w*\.py|[a-z]+/)", line):
            path = (folders[-1] if folders else ROOT) / name.rstrip("/")
            if depth:
                shown.setdefault(folders[-1], set()).add(path)
        folders.append(path)
    assert {ROOT / "esnode", ROOT / "esctl"} <= set(shown)
    for folder, paths in shown.items():
        assert paths == contents_of(folder), folder


def test_the_tasks_of_a_node_are_those_that_its_nursery_starts() -> None:
    text = document("ARCHITECTURE.md").text.partition("in one nursery, in `Node.run`: ")[2].partition(". ")[0]
    started = re.findall(r'name="(\w+)"', (ROOT / "esnode" / "node.py").read_text(encoding="utf-8"))
    assert re.findall(r"`(\w+)`", text) == sorted(started, key=text.index)


# --- commands -----------------------------------------------------------------------------------


@each_document
def test_every_command_line_of_a_document_can_be_typed(page: Document) -> None:
    for line in page.command_lines("esctl"):
        if re.search(r" COMMAND\b|\.\.\.|`", line) is None:
            old = page.name == "CHANGELOG.md"  # what it tells of older versions has the words of those
            parse(" ".join(["esctl", *current(line.split()[1:])[0]]) if old else line)


@each_document
def test_a_span_of_time_in_a_command_line_has_its_unit(page: Document) -> None:
    lines = [line for line in page.command_lines("esctl") if page.name != "CHANGELOG.md"]
    assert [(line, bare) for line in lines if (bare := without_unit(line.split()[1:]))] == []


@pytest.mark.parametrize(
    "line", ["esctl cluster upp", "esctl statsu", "esctl status --wrong", "esctl node kill"]
)
def test_a_wrong_command_line_would_be_found(line: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        parse(line)


@pytest.mark.parametrize("cls", declared().values(), ids=lambda cls: cls.code)
def test_the_next_step_of_every_error_names_a_command_that_is_there(cls: Any) -> None:
    for words in re.findall(r"\besctl ((?:[a-z]+ ?)+)", cls.next_step):
        command, _ = find(words.split())
        assert command is not None, cls.next_step
        assert not hasattr(command, "commands"), cls.next_step


@each_document
def test_every_make_target_of_a_document_is_there(page: Document) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in page.command_lines("make"):
        assert f"\n{line.split()[1]}:" in makefile, line


@each_document
def test_every_module_that_a_document_runs_is_there(page: Document) -> None:
    for line in page.command_lines("python"):
        words = line.split()
        paths = [Path(words[1])]
        if words[1] == "-m":  # a package is run by its `__main__`
            module = Path(words[2].replace(".", "/"))
            paths = [module.with_suffix(".py"), module / "__main__.py"]
        assert words[1:3] == ["-m", "pytest"] or any((ROOT / path).is_file() for path in paths), line


def test_the_torture_scripts_take_the_options_that_their_document_gives() -> None:
    lines = [line for line in document("docs/testing.md").command_lines("python") if "tests.torture." in line]
    assert lines
    for line in lines:
        module, *arguments = shlex.split(line)[2:]
        importlib.import_module(module).parser().parse_args(arguments)


# --- what is made from the code -----------------------------------------------------------------


REFERENCE: dict[str, Callable[[], str]] = runpy.run_path(str(ROOT / "docs" / "make_reference.py"))["PAGES"]


@pytest.mark.parametrize("name", REFERENCE)
def test_the_pages_made_from_the_code_are_current(name: str) -> None:
    assert document(f"docs/{name}").text == REFERENCE[name](), "run: make docs"


@pytest.mark.parametrize("code", declared())
def test_every_error_code_is_explained_and_listed(code: str) -> None:
    data: Any = explain(Invocation("explain", SharedOptions()), code).data
    assert data["code"] == code
    assert data["meaning"]
    assert data["next"]
    assert f"| {code} | **{data['title']}**" in document("docs/errors.md").text


@each_document
def test_every_error_code_that_a_document_names_exists(page: Document) -> None:
    for code in re.findall(r"\bES\d{4}\b", page.text):
        assert code in declared(), code


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("demo", ["27,004", "0", "duplicates"]),
        ("status", ["down", "leader"]),
        ("timeline", ["election", "fault", "restart", "expired,"]),
    ],
)
def test_a_picture_shows_what_it_should_and_nothing_of_the_machine(name: str, words: list[str]) -> None:
    text = (ROOT / "docs" / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
    shown = " ".join(ElementTree.fromstring(text).itertext()).replace("\N{NO-BREAK SPACE}", " ").split()
    assert set(words) <= set(shown)
    assert "url(http" not in text
    assert "@font-face" not in text
    assert not [word for word in shown if word.startswith("/")]


def test_the_operators_document_lists_the_events_that_nodes_write_and_their_reasons() -> None:
    page = document("docs/operations.md")
    listed = {event for row in page.rows("What nodes write") for event in re.findall(r"`(\w+)`", row[0])}
    assert listed <= KNOWN
    assert KNOWN - LEFT_OUT - listed == {
        "storage_opened", "savepoint_unusable", "left_to_the_next_start", "peer_dropped", "client_refused",
    }  # fmt: skip
    reasons = {
        value for name, value in vars(rolechanges).items() if name.isupper() and isinstance(value, str)
    }
    assert len(reasons) == 11
    assert reasons <= set(page.spans())


# --- the configuration --------------------------------------------------------------------------


def example_configuration() -> tuple[str, dict[str, Any]]:
    (text,) = document("docs/deployment.md").fences("toml")
    return text, tomli.loads(text)


def names_of(cls: type[Any]) -> set[str]:
    return {field.name for field in dataclasses.fields(cls)}


def test_the_deployment_document_has_every_configuration_key_and_its_default() -> None:
    text, written = example_configuration()
    assert set(written) == names_of(config.Config) - {"partition"}
    sections = {
        "raft": config.Raft,
        "dedup": config.Dedup,
        "retention": config.Retention,
        "faults": config.Faults,
    }
    for name, cls in sections.items():
        assert written[name] == dataclasses.asdict(cls()), name
    for field in dataclasses.fields(config.Config):
        if isinstance(field.default, str) or field.name == "partitions":
            assert written[field.name] == field.default
    assert all(set(member) == names_of(config.Member) for member in written["members"])
    for choices in (config.STORAGE_ENGINES, config.LOG_LEVELS, config.WHEN_FULL):
        commented = re.sub(r" \([^)]*\)", "", text)
        assert " | ".join(choices) in commented


def test_the_configuration_of_the_deployment_document_loads(tmp_path: Path) -> None:
    path = tmp_path / "esnode.toml"
    path.write_text(example_configuration()[0], encoding="utf-8")
    loaded = config.load(path)
    assert loaded.node_id == 1
    assert len(loaded.members) == 3


# --- the protocol and the figures ---------------------------------------------------------------


def keys_of(function: str) -> set[str]:
    """The text keys of every dictionary that `function` of esnode/server/status.py writes out."""
    tree = ast.parse((ROOT / "esnode" / "server" / "status.py").read_text(encoding="utf-8"))
    (found,) = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function
    ]
    dictionaries = [node for node in ast.walk(found) if isinstance(node, ast.Dict)]
    return {str(key.value) for one in dictionaries for key in one.keys if isinstance(key, ast.Constant)}


def test_the_protocol_document_lists_every_key_of_a_status() -> None:
    rows = document("docs/protocol.md").rows("The status of a node")
    listed = {name: row[1] for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert set(listed) == keys_of("gather")
    assert set(re.findall(r"`(\w+)`", listed["dedup"])) == keys_of("_dedup")
    assert set(re.findall(r"`(\w+)`", listed["peers"])) == keys_of("_peer")


DEDUP, RAFT = config.Dedup(), config.Raft()
SUSPECTED_MS = f"{RAFT.election_ms} ms plus a random 0-{RAFT.jitter_ms} ms"
FIGURES = [
    ("docs/guarantees.md", f"`dedup.ttl_ms` ({DEDUP.ttl_ms // 60_000} minutes by default)"),
    ("docs/guarantees.md", f"in {GENERATIONS} generations"),
    (
        "docs/guarantees.md",
        f"1/{GENERATIONS} longer than `ttl_ms` ({DEDUP.ttl_ms / GENERATIONS / 1000:.1f} s",
    ),
    ("docs/guarantees.md", f"{limits.KEY_BYTES_ON_DISK} bytes per key, {DEDUP.max_keys:,} keys"),
    ("docs/guarantees.md", f"most {limits.MAX_TICK_MS} ms ({limits.MAX_QUIET_TICK_MS} ms on an idle leader)"),
    ("docs/guarantees.md", f"the last {limits.MAX_PRODUCER_RANGES} batches"),
    ("docs/guarantees.md", f"({limits.MAX_REMEMBERED_RANGES:,} in all sessions"),
    ("docs/guarantees.md", f"The {limits.MAX_PRODUCERS:,} most recently active sessions"),
    ("docs/guarantees.md", f"when there are {limits.MAX_NAMED_PRODUCERS:,} names"),
    ("docs/guarantees.md", f"within {limits.NAMED_PRODUCER_KEPT_MS // 86_400_000} days of log time"),
    ("docs/guarantees.md", f"the last {MAX_GIVEN_UP:,} such events"),
    ("docs/protocol.md", f"at most {limits.MAX_PRODUCER_NAME_BYTES} bytes), producer_id"),
    ("docs/failover.md", f"3 heartbeats of {RAFT.heartbeat_ms} ms"),
    ("docs/failover.md", SUSPECTED_MS),
    ("docs/failover.md", f"by rank, {limits.HASTY_ELECTION_STEP_MS} ms apart"),
    ("docs/failover.md", f"{limits.HASTY_RETRY_MS} to {2 * limits.HASTY_RETRY_MS - 1} ms, at most"),
    ("docs/failover.md", f"at most {limits.MAX_HASTY_ELECTIONS} times"),
    ("docs/failover.md", f"The others give it {limits.GIVE_WAY_MS} ms"),
    ("docs/failover.md", f"after {RAFT.election_ms} ms to {2 * RAFT.election_ms} ms"),
    ("docs/failover.md", f"`timeout_s`, {limits.CLIENT_TIMEOUT_S:g} s by default"),
    ("docs/failover.md", f"no leader for {STALE_MS // 1000} s"),
    ("docs/failover.md", f"chunks of {limits.SNAPSHOT_CHUNK_BYTES // limits.MIB} MiB"),
    ("docs/deployment.md", f"within {limits.STOP_TIMEOUT_S:g} s"),
    ("docs/protocol.md", f"{limits.MAX_FRAME_BYTES:,} (`MAX_FRAME_BYTES`)"),
    ("docs/protocol.md", f"1 to {limits.MAX_BATCH_EVENTS:,} (`MAX_BATCH_EVENTS`)"),
    ("docs/protocol.md", f"{limits.MAX_BATCH_BYTES // limits.MIB} MiB (`MAX_BATCH_BYTES`)"),
    ("docs/protocol.md", f"{limits.MAX_EVENT_BYTES // limits.MIB} MiB (`MAX_EVENT_BYTES`)"),
    ("docs/protocol.md", f"at most {limits.MAX_CBOR_DEPTH} levels deep"),
    ("DECISIONS.md", f"{limits.HASTY_RETRY_MS} to {2 * limits.HASTY_RETRY_MS - 1} ms"),
    ("DECISIONS.md", f"in {GENERATIONS} generations"),
    ("DECISIONS.md", f"every {limits.TICK_MS} ms"),
]


@pytest.mark.parametrize(("name", "words"), FIGURES)
def test_a_figure_in_a_document_is_the_one_of_the_code(name: str, words: str) -> None:
    assert words in " ".join(document(name).text.split())


def without_brackets(cell: str) -> str:
    return re.sub(r" \([^)]*\)", "", cell)


def test_the_first_page_has_the_figures_of_other_systems_as_they_were_measured() -> None:
    """The closed loop tells the row; the other cells are those of that row, without their spread."""
    measured = {row[2]: row for row in document("docs/performance.md").rows("Other systems")}
    shown = document("README.md").rows("Compared with other systems")
    assert len(shown) == 6
    for system, _, closed_loop, latency, memory, killed in shown:
        row = measured[closed_loop]
        assert [latency, memory] == [without_brackets(row[4]), row[5]], system
        first, *others = killed.split("; ")
        assert first == without_brackets(row[6]), system
        for other in others:  # "315 ms with a heartbeat of 20 ms"
            figure, _, settings = other.partition(" with ")
            (row,) = [row for row in measured.values() if settings in row[0]]
            assert figure == without_brackets(row[6]), system
            assert row[0].startswith(system.split()[0].rstrip(",")), system


# --- programs -----------------------------------------------------------------------------------


PROGRAMS = [(page, text) for page in DOCUMENTS for text in page.fences("python")]


@pytest.mark.parametrize(("page", "text"), PROGRAMS, ids=lambda value: getattr(value, "name", ""))
def test_a_program_in_a_document_compiles_and_imports_what_there_is(page: Document, text: str) -> None:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), page.name


def test_the_examples_are_programs_of_a_few_lines() -> None:
    for name in ("producer.py", "consumer.py"):
        assert len((ROOT / "examples" / name).read_text(encoding="utf-8").splitlines()) <= 30


def test_the_known_bugs_of_others_are_all_in_the_list() -> None:
    rows = document("docs/testing.md").rows("Known bugs of other systems")
    assert [row[0] for row in rows] == [str(number) for number in range(1, 28)]
    assert all("` `test_" in row[3] or row[3].startswith("left for later: ") for row in rows)


def test_the_changelog_keeps_its_form() -> None:
    text = document("CHANGELOG.md").text
    assert "## [Unreleased]" in text
    headings = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert set(headings) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
