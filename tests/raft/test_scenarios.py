"""The stories in `scenarios/`: each must print what its file says. `--rewrite` writes them anew."""

from pathlib import Path

import pytest

from . import scenario

STORIES = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_a_story_goes_as_it_is_told(path: Path, request: pytest.FixtureRequest) -> None:
    told = scenario.read(path)
    assert told[0].printed is None, "a story opens with prose"
    played = scenario.play(told)
    if request.config.getoption("--rewrite"):
        path.write_text("\n".join(map(str, played)), encoding="utf-8")
        told = scenario.read(path)
    assert [str(block) for block in played] == [str(block) for block in told]


def test_there_are_at_least_a_dozen_stories() -> None:
    assert len(STORIES) >= 12
