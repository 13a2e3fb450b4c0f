"""Nodes that an input names by what they do: `leader` or `any-follower`, chosen once when a run begins.

From then on the input is the node's number, whatever the nodes do later: in the plan, in the journal, and
when the run goes on. Pure. Called by `inputs.py`, the plan, and the run before its first step.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from esctl.playbook.schema import InputType, Playbook, Scalar
from esctl.playbookerrors import UnplannableStep

if TYPE_CHECKING:
    from esctl.query.survey import Survey

LEADER: Final = "leader"
ANY_FOLLOWER: Final = "any-follower"
WORDS: Final = (LEADER, ANY_FOLLOWER)


def words_of(playbook: Playbook, inputs: Mapping[str, Scalar]) -> dict[str, str]:
    """The inputs that stand for a node and are not its number yet, each with its word."""
    nodes = [spec.name for spec in playbook.inputs if spec.type is InputType.NODE]
    return {name: word for name in nodes if isinstance(word := inputs.get(name), str)}


def chosen(words: Mapping[str, str], survey: "Survey | None") -> dict[str, int]:
    """The number for each word, of the cluster as it is. Raises `UnplannableStep` where there is none."""
    return {name: _number(name, word, survey) for name, word in words.items()}


def differences(words: Mapping[str, str], inputs: Mapping[str, Scalar], now: "Survey") -> list[str]:
    """What no longer is what it was chosen for, as texts; empty when all are."""
    return [
        f"node {inputs[name]} is no longer {word.replace('-', ' ')} (input {name})"
        for name, word in words.items()
        if inputs[name] not in _fitting(word, now)
    ]


def told(inputs: Mapping[str, Any], chosen: Mapping[str, str]) -> dict[str, str]:
    """The inputs for people: a node that was chosen by a word, with that word."""
    return {
        name: f"{value} ({chosen[name]})" if name in chosen else str(value) for name, value in inputs.items()
    }


def _number(name: str, word: str, survey: "Survey | None") -> int:
    if survey is None:
        raise UnplannableStep(
            f"the input {name} is {word}, and there is no cluster to choose from",
            next_step=f"give a number: --input {name}=1",
        )
    fitting = _fitting(word, survey)
    if not fitting:
        why = "no node leads" if survey.leader is None else "no follower answers, votes and is near its end"
        raise UnplannableStep(f"the input {name} is {word}, and {why}")
    return fitting[0]


def _fitting(word: str, survey: "Survey") -> list[int]:
    """The nodes that a word may mean, the lowest first. Where nobody leads, nobody follows either."""
    if survey.leader is None:
        return []
    leader = survey.leader.node.id
    return [leader] if word == LEADER else sorted(survey.counted - {leader})
