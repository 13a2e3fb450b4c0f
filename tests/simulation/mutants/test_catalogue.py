"""The catalogue of planted bugs fits the source as it is now."""

import ast

import pytest

from tests.simulation.mutants.catalogue import BY_NAME, CATALOGUE
from tests.simulation.mutants.mutant import ROOT, Edit, Mutant, NotPlanted, edited, mutated, source_of

KNOWN_BUGS = {*range(1, 8), *range(9, 13), *range(14, 19), *range(20, 25), 26}
"""The lines of the bugs that real systems shipped which can be planted here."""


@pytest.mark.parametrize("mutant", CATALOGUE, ids=lambda mutant: mutant.name)
def test_each_bug_can_be_planted_in_the_present_source(mutant: Mutant) -> None:
    for module, source in mutated(mutant).items():
        assert ast.dump(ast.parse(source)) != ast.dump(ast.parse(source_of(module)))
        compile(source, module, "exec")


def test_every_bug_has_a_name_of_its_own() -> None:
    assert len(BY_NAME) == len(CATALOGUE) >= 40
    assert {mutant.tier for mutant in CATALOGUE} == {"A", "B", "R", "T"}


def test_at_least_thirty_bugs_are_for_the_simulation_and_the_others_have_a_test_that_is_there() -> None:
    assert sum(mutant.tier in "ABR" for mutant in CATALOGUE) >= 30
    for mutant in CATALOGUE:
        assert bool(mutant.test) == (mutant.tier == "T")
        file, _, name = mutant.test.partition("::")
        assert not name or f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")


def test_every_bug_of_the_list_that_can_be_planted_is_planted() -> None:
    planted = {int(mutant.source[1:]) for mutant in CATALOGUE if mutant.source.startswith("#")}
    assert planted >= KNOWN_BUGS


def test_a_text_that_is_not_there_or_there_twice_is_refused() -> None:
    source = "a = 1\nb = 1\n"
    assert edited(source, Edit("m", "a = 1", "a = 2")) == "a = 2\nb = 1\n"
    for old in ("c = 1", "= 1"):
        with pytest.raises(NotPlanted):
            edited(source, Edit("m", old, ""))


def test_whole_lines_are_replaced_at_the_depth_at_which_they_stand() -> None:
    source = "def f():\n    if a:\n        b()\n    c()\n"
    edit = Edit("m", "if a:\n    b()\n", "if b:\n    c()\n\n    d()\n")
    assert edited(source, edit) == "def f():\n    if b:\n        c()\n\n        d()\n    c()\n"
    with pytest.raises(NotPlanted):
        edited(source, Edit("m", "if a:\nb()\n", ""))
