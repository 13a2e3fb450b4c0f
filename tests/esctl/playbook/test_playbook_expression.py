"""The grammar of expressions: what they mean, what they refuse, what they say of themselves."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esctl.errors import InvalidArgument
from esctl.playbook import expression, grammar, names, template
from esctl.playbook.grammar import BoolOp, Compare, ListOf, Literal, Node, Not, Path
from esctl.playbook.types import Type
from esctl.playbookerrors import InvalidExpression, NotEvaluable, UnknownValue
from esctl.ui.duration import Duration

VALUES: dict[str, Any] = {
    "status": {
        "leader": 2,
        "term": 4,
        "voters_up": 2,
        "up": [1, 2],
        "down": [],
        "nodes": {"1": {"up": True}, "2": {"up": False}},
    },
    "health": {"ok": False, "reasons": ["node 3 is down"]},
    "load": {"p99_ms": 12.5, "rate_per_s": None},
    "captured": {"old_leader": 1, "name": "it's"},
    "inputs": {"lease": Duration(30_000)},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("status.leader", 2),
        ("status.leader == 2", True),
        ("status.leader != captured.old_leader", True),
        ("status.leader != null", True),
        ("load.rate_per_s == null", True),
        ("load.p99_ms < 13", True),
        ("load.p99_ms >= 12.5", True),
        ("2 in status.up and 3 not in status.up", True),
        ("status.down == []", True),
        ("status.up == [1, 2]", True),
        ("'node 3' in health.reasons", False),
        ("'s' in captured.name", True),
        ("captured.name == 'it\\'s'", True),
        ("not health.ok and (status.term > 9 or status.term == 4)", True),
        ("health.ok or status.leader == 2 and health.ok", False),
        ("status.nodes[captured.old_leader].up", True),
        ("status.nodes.2.up", False),
        ("status.up[0]", 1),
        ("inputs.lease == 30s and inputs.lease < 1m and 1500ms == 1.5s", True),
        ("true != false", True),
        ("-3 < -2.5", True),
    ],
)
def test_an_expression_is_worth_what_it_says(text: str, expected: Any) -> None:
    assert expression.parse(text).evaluate(VALUES) == expected


def test_what_decides_already_is_not_looked_at_further() -> None:
    assert not expression.parse("load.rate_per_s != null and load.rate_per_s > 3").holds(VALUES)
    assert expression.parse("not health.ok or nothing.there").holds(VALUES)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("status.leader == '2'", NotEvaluable, "a number and '2' is a text"),
        ("health.ok == 0", NotEvaluable, "true or false and 0 is a number"),
        ("load.rate_per_s < 3", NotEvaluable, "load.rate_per_s is null"),
        ("status.up < 3", NotEvaluable, "status.up is [1, 2], which `<` cannot compare"),
        ("'2' in status.up", NotEvaluable, "each of status.up is a number"),
        ("2 in status.leader", NotEvaluable, "not a list"),
        ("health.ok and status.leader", NotEvaluable, "health.ok"),
        ("status.leader", NotEvaluable, "status.leader is 2, neither true nor false"),
        ("not status.leader", NotEvaluable, "neither true nor false"),
        ("status.voters_u == 3", UnknownValue, "did you mean status.voters_up?"),
        ("fault.id == 'x'", UnknownValue, "what can be read has captured, health"),
        ("status.nodes.3.up", UnknownValue, "status.nodes has 1, 2"),
        ("status.up[2] == 1", UnknownValue, "a list of 2, counted from 0"),
        ("status.leader.name == 1", UnknownValue, "status.leader is 2"),
        ("status.nodes[status.up].up", NotEvaluable, "it names nothing"),
    ],
)
def test_what_makes_no_sense_is_an_error_that_says_why(
    text: str, error: type[NotEvaluable], words: str
) -> None:
    values = VALUES | {"health": {"ok": True}} if text.startswith("health.ok and") else VALUES
    with pytest.raises(NotEvaluable) as raised:
        expression.parse(text).holds(values)
    assert type(raised.value) is error
    assert words in str(raised.value) or words == "health.ok"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is nothing"),
        ("status.leader ==", "character 17: something is missing at the end"),
        ("status.leader = 2", "two `=` compare"),
        ("1 < status.leader < 3", "join two comparisons with `and`"),
        ("(health.ok", "')' is missing for the '(' at character 1"),
        ("[1, 2", "']' is missing"),
        ("health.ok)", "')' is not expected here"),
        ("and health.ok", "'and' is not expected here"),
        ("status.leader not 2", "`not in`"),
        ("'open", "is not understood"),
        ("5x == 3", "'5x' is no duration"),
        ("__import__('os')", "is not expected here"),
        ("(" * 21 + "1" + ")" * 21, "levels within each other"),
        ("not " * 21 + "health.ok", "levels within each other"),
        ("9" * 19 + " == 1", "digits"),
        ("health.ok " * 200, "over 1000"),
    ],
)
def test_what_is_not_in_the_grammar_is_refused_at_its_character(text: str, words: str) -> None:
    with pytest.raises(InvalidExpression) as raised:
        expression.parse(text)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("status.voters_up == 3", "expected status.voters_up == 3, was 2"),
        ("health.ok", "expected health.ok, was false"),
        ("status.leader == 2 and health.ok", "expected health.ok, was false"),
        (
            "status.leader == captured.old_leader",
            "expected status.leader == captured.old_leader; status.leader was 2, captured.old_leader was 1",
        ),
        (
            "health.ok or status.term == 5",
            "expected health.ok or status.term == 5: health.ok was false; status.term was 4",
        ),
        ("not (status.leader == 2)", "expected not status.leader == 2; status.leader was 2"),
        (
            "status.voter == 3",
            "expected status.voter == 3: there is no status.voter; did you mean status.voters_up?",
        ),
    ],
)
def test_what_does_not_hold_is_explained_with_what_was_there(text: str, expected: str) -> None:
    assert expression.parse(text).explain(VALUES) == expected


def test_the_names_that_an_expression_reads_are_known_before_it_is_evaluated() -> None:
    read = expression.parse("status.nodes[captured.victim].up and load.acked > 0 and load.acked < 9")
    assert read.names == ("status.nodes.*.up", "captured.victim", "load.acked")
    assert read.roots == {"status", "captured", "load"}


def test_names_can_be_replaced_by_values_and_by_other_names() -> None:
    read = expression.parse("status.nodes[item.node].up and inputs.rate > 3 and step.cut.data.id == 'x'")
    bound = read.bind(
        {
            "item.node": Literal(2),
            "inputs.rate": Path(("inputs", "speed")),
            "step.cut": Path(("step", "a-cut")),
        }
    )
    assert str(bound) == "status.nodes.2.up and inputs.speed > 3 and step.a-cut.data.id == 'x'"
    with pytest.raises(InvalidExpression):
        expression.parse("item.node.up").bind({"item.node": Literal(2)})


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("status.leader == 2", True),
        ("status.leader == 'two'", False),
        ("health.ok == 1", False),
        ("status.up < 3", False),
        ("status.up == 3", False),
        ("3 in status.leader", False),
        ("answer.anything < 3 and answer.other == 'x'", True),
        ("status.leader and health.ok", False),
        ("not status.up", False),
        ("fault.effect in ['applied', 'unknown']", True),
    ],
)
def test_types_that_differ_are_found_before_there_are_values(text: str, fits: bool) -> None:
    read = expression.parse(text)
    if fits:
        assert read.type_under(lambda name: names.entry_of(name).type) is Type.BOOL
    else:
        with pytest.raises(NotEvaluable):
            read.type_under(lambda name: names.entry_of(name).type)


# --- by chance ----------------------------------------------------------------------------------------

SEGMENTS = st.from_regex(r"[a-z][a-z0-9_-]{0,6}", fullmatch=True).filter(
    lambda word: word not in ("and", "or", "not", "in", "true", "false", "null")
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**15), 10**15),
    st.floats(-1e9, 1e9, allow_nan=False).map(lambda number: round(number, 3)),
    st.text(max_size=8),
    st.integers(0, 10**9).map(Duration),
)
PATHS = st.lists(SEGMENTS, min_size=1, max_size=4).map(lambda parts: Path(tuple(parts)))
OPERANDS: st.SearchStrategy[Node] = st.one_of(
    SCALARS.map(Literal), PATHS, st.lists(SCALARS.map(Literal), max_size=3).map(lambda i: ListOf(tuple(i)))
)


def larger(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    return st.one_of(
        st.builds(Compare, st.sampled_from(grammar.COMPARISONS), inner, inner),
        st.builds(
            lambda op, parts: BoolOp(op, tuple(parts)),
            st.sampled_from(["and", "or"]),
            st.lists(inner, min_size=2, max_size=3),
        ),
        st.builds(Not, inner),
        st.builds(lambda path, index: Path((*path.parts, grammar.segment(index), "x")), PATHS, inner),
    )


TREES = st.recursive(OPERANDS, larger, max_leaves=8)


@given(TREES)
def test_a_printed_expression_is_read_back_as_the_same(tree: Node) -> None:
    text = grammar.printed(tree)
    try:
        again = grammar.parse(text)
    except InvalidExpression as error:
        bounded = "levels" in str(error) or f"over {grammar.MAX_LENGTH}" in str(error)
        if not bounded:
            raise
        return
    assert again == tree
    assert grammar.printed(again) == text


WORDS = ["status.leader", "health", ".", "[", "]", "(", ")", ",", "==", "!=", "<", "in", "not", "and", "or",
         "'a'", "3", "2.5", "30s", "null", "true", "-", "\\"]  # fmt: skip


@given(
    st.one_of(
        st.text(max_size=40),
        st.lists(
            st.sampled_from(WORDS),
            max_size=12,
        ).map(" ".join),
    )
)
def test_no_text_brings_out_any_error_but_the_declared_ones(text: str) -> None:
    try:
        read = expression.parse(text)
    except InvalidExpression:
        return
    assert expression.parse(str(read)) == read
    assert read.explain(VALUES)
    with suppress(NotEvaluable):
        read.holds(VALUES)


# --- references in arguments --------------------------------------------------------------------------


def test_a_text_that_is_one_reference_becomes_the_value_itself() -> None:
    given_ = {"rate": "${status.term}", "argv": ["node", "stop", "${captured.old_leader}"], "runs": 3}
    assert template.fill(given_, VALUES) == {"rate": 4, "argv": ["node", "stop", 1], "runs": 3}


def test_within_a_longer_text_a_value_is_written_as_people_type_it() -> None:
    assert template.fill("for ${inputs.lease}, on node ${status.leader}", VALUES) == "for 30s, on node 2"
    assert template.fill("$${HOME} is ${status.term}", VALUES) == "${HOME} is 4"
    for text in ("a ${status.up}", "a ${load.rate_per_s}"):
        with pytest.raises(NotEvaluable):
            template.fill(text, VALUES)


def test_what_is_not_known_yet_stays_a_reference() -> None:
    words = ["${status.leader}", "x ${fault.id} ${status.leader}"]
    assert template.fill_known(words, VALUES) == [2, "x ${fault.id} ${status.leader}"]
    with pytest.raises(UnknownValue):
        template.fill(words, VALUES)
    assert template.names(words) == ("status.leader", "fault.id")


@pytest.mark.parametrize("text", ["${a", "${}", "${1}", "${a == 2}", "a ${'x'}"])
def test_only_a_name_can_stand_between_the_braces(text: str) -> None:
    with pytest.raises(InvalidExpression):
        template.references(text)


# --- durations and the catalogue ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ms", "shown"),
    [("500ms", 500, "500ms"), ("30s", 30_000, "30s"), ("3m", 180_000, "3m"), ("90s", 90_000, "1m30s"),
     ("1h30m", 5_400_000, "1h30m"), ("1.5s", 1_500, "1.5s"), ("0s", 0, "0s")],
)  # fmt: skip
def test_a_duration_counts_milliseconds_and_reads_as_it_is_typed(text: str, ms: int, shown: str) -> None:
    assert Duration.parse(text) == ms
    assert str(Duration.parse(text)) == f"{Duration.parse(text)}" == shown


@pytest.mark.parametrize("text", ["5", "soon", "5 hours", "-3s", ""])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("status.nodes.2.up", Type.BOOL),
        ("status.nodes.*.role", Type.TEXT),
        ("status.followers.0", Type.ANY),
        ("step.cut.ok", Type.BOOL),
        ("answer.nodes.0.role", Type.ANY),
        ("verify", Type.TABLE),
    ],
)
def test_a_name_is_found_in_the_catalogue_by_its_pattern(name: str, kind: Type) -> None:
    assert names.entry_of(name).type is kind


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("status.leadr", "did you mean status.leader?"),
        ("load.foo", "load.running"),
        ("answer", "answer"),
        ("weather.rain", "status.*"),
        ("status.nodes.x.up", "status.nodes.N.up"),
    ],
)
def test_a_name_that_is_not_there_brings_out_those_that_are(name: str, words: str) -> None:
    if name == "answer":
        assert names.entry_of(name).type is Type.TABLE
        return
    with pytest.raises(UnknownValue) as raised:
        names.entry_of(name)
    assert words in str(raised.value)
