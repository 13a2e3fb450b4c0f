"""What each kind of step takes, and the line of a terminal that it comes down to."""

from collections.abc import Mapping
from typing import Any

import pytest

from esctl.playbook import commandline, parameters, stepkinds
from esctl.playbook.commands import command_of, shown
from esctl.playbook.forecast import Forecast
from esctl.playbook.schema import Action, ActionKind
from esctl.playbookerrors import InvalidPlaybook
from esctl.ui.duration import Duration


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("esctl", {"argv": "status"}, "must be a list of texts"),
        ("esctl", {"argv": []}, "must be a list of texts"),
        ("fault", {"type": "flood"}, "must be one of partition, net"),
        ("fault", {"type": "kill", "node": 0}, "the number of a node, not 0"),
        ("fault", {"type": "net", "drop": "200%"}, 'a share such as "5%"'),
        ("fault", {"type": "net", "rate": "fast"}, "bytes a second"),
        ("bench", {"mode": "produce", "background": "yes"}, "true or false"),
        ("bench", {"mode": "produce", "rate": True}, "must be a number"),
        ("heal", {"fault": "cut", "all": True}, "either `fault` or `all`"),
        ("http", {"url": "http://x", "method": "get"}, "must be one of GET"),
        ("check", {"what": 1}, "it takes no arguments"),
        ("foreach", {"items": []}, "must be a list, or an expression"),
        ("note", {"text": "${a ="}, "is not closed"),
        ("note", {"text": "${a = 2}"}, "is not understood"),
    ],
)
def test_arguments_that_do_not_fit_a_kind_are_told(kind: str, given: dict[str, Any], words: str) -> None:
    found = [why for _, why in stepkinds.flaws(Action(ActionKind(kind), given))]
    assert any(words in why for why in found), found


def test_what_is_filled_in_is_checked_once_more() -> None:
    action = Action(ActionKind.FAULT, {"type": "kill", "node": "${captured.victim}", "lease": "10s"})
    assert not list(stepkinds.flaws(action))
    assert stepkinds.filled(action, {"captured": {"victim": 2}}).arguments["node"] == 2
    with pytest.raises(InvalidPlaybook, match="the number of a node, not None"):
        stepkinds.filled(action, {"captured": {"victim": None}})


@pytest.mark.parametrize(
    ("kind", "given", "line"),
    [
        ("fault", {"type": "partition", "shape": "isolate-leader", "lease": "30s"},
         "esctl fault partition isolate-leader --lease 30s"),
        ("fault", {"type": "partition", "shape": "isolate", "node": 2, "lease": Duration(10_000)},
         "esctl fault partition isolate 2 --lease 10s"),
        ("fault", {"type": "net", "link": "1-3", "drop": "5%", "stall": False, "one_way": True},
         "esctl fault net 1-3 --drop 5% --one-way"),
        ("fault", {"type": "disk", "how": "slow", "node": 2, "delay": "200ms"},
         "esctl fault disk slow 2 --delay 200ms"),
        ("fault", {"type": "kill", "node": 3, "lease": "1m"}, "esctl fault kill 3 --lease 1m"),
        ("fault", {"type": "freeze", "lease": "5s"}, "esctl fault freeze --lease 5s"),
        ("fault", {"type": "net", "reorder": "10%", "hold": "200ms"},
         "esctl fault net --reorder 10% --hold 200ms"),
        ("heal", {"fault": "cut-1a2b"}, "esctl fault heal cut-1a2b"),
        ("heal", {"all": True}, "esctl fault heal --all"),
        ("bench", {"mode": "produce", "rate": 100, "background": True, "name": "steady"},
         "esctl bench start steady --rate 100"),
        ("bench", {"mode": "failover", "strike": "kill", "times": 2},
         "esctl bench failover --kind kill --times 2"),
        ("bench", {"mode": "produce", "seconds": 2}, "esctl bench produce --duration 2s"),
        ("bench", {"mode": "produce", "duration": "1m30s"}, "esctl bench produce --duration 1m30s"),
        ("bench", {"mode": "soak", "minutes": 90}, "esctl bench soak --duration 90m"),
        ("bench", {"mode": "sweep", "p99": 20, "from": 500}, "esctl bench sweep --p99 20ms --from 500"),
        ("backup", {"action": "create", "save": "a b.tar", "options": ["--quiet"]},
         "esctl backup create --save 'a b.tar' --quiet"),
        ("backup", {"action": "restore", "file": "a.tar", "name": "again"},
         "esctl backup restore a.tar --name again"),
        ("backup", {"action": "verify", "file": "a.tar"}, "esctl backup verify a.tar"),
        ("fault", {"type": "clock", "how": "jump", "node": 2, "by": "+2h", "lease": "10s"},
         "esctl fault clock jump 2 --by +2h --lease 10s"),
        ("esctl", {"argv": ["node", "stop", 2]}, "esctl node stop 2"),
        ("esctl", {"argv": ["node", "stop", "${captured.one}"]}, "esctl node stop ${captured.one}"),
        ("http", {"url": "http://localhost/up"}, "GET http://localhost/up"),
        ("wait", {}, ""),
    ],
)  # fmt: skip
def test_an_action_comes_down_to_the_line_that_a_person_would_type(
    kind: str, given: Mapping[str, Any], line: str
) -> None:
    action = Action(ActionKind(kind), given)
    assert shown(action) == line
    assert bool(command_of(action)) is line.startswith("esctl ")


@pytest.mark.parametrize("kind", [ActionKind.FAULT, ActionKind.BENCH, ActionKind.BACKUP])
def test_a_step_takes_every_option_that_its_command_has(kind: ActionKind) -> None:
    assert stepkinds.commands_of(kind)
    for name in stepkinds.commands_of(kind):
        command = commandline.members(kind)[name]
        own = [one for one in command.params if one.name in command.callback.declared.takes]
        options = {option for one in own for option in one.opts if option.startswith("--")}
        options -= {"--id", "--yes", "--dry-run"}  # the run says these
        known = {one.option for one in parameters.arguments((kind, name)).values() if one.option}
        assert known == options, name


def test_a_frozen_cluster_has_no_quorum_in_the_plan() -> None:
    freeze = Action(ActionKind.FAULT, {"type": "freeze", "lease": "5s"})
    _, outlook = Forecast((1, 2, 3), leader=1).after("freeze", freeze)
    assert outlook is not None
    assert not outlook.kept
