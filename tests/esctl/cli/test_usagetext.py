"""A command line that is wrong is refused in words that need no knowledge of the library."""

import re

import pytest

from tests.esctl.commands.test_commands import Run

TYPES = re.compile(r"\b(?:int|float|str|bool|range [x(]|x>=|<=x|Value error|Input should)\b")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("node stop two", "'two' is not a whole number"),
        ("node stop 0", "0 is too low: the lowest is 1"),
        ("bench produce --rate x", "'x' is not a number"),
        ("bench soak --duration 0", "0 is out of range: it goes from 600ms to 111d2h40m."),
        ("bench soak --interval 4000", "4000 is out of range: it goes from 200ms to 1h."),
        ("top --every soon", "'soon' is no duration: write 500ms, 30s, 10m or 1h30m."),
        ("status --timeout 10ms", "10ms is too low: the lowest is 50ms."),
        ("node stop", "Missing argument 'ID'"),
        ("fault disk wrong 1", "'wrong' is not one of 'slow'"),
        ("status --nod", "No such option: --nod"),
    ],
)
def test_a_wrong_command_line_is_refused_in_plain_words(words: str, said: str) -> None:
    run = Run(*words.split())
    assert run.code == 2
    assert said in run.err
    assert not TYPES.search(run.err)
