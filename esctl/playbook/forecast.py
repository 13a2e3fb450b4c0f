"""Predicts the quorum step by step: which nodes are down, which are cut off, and which can still lead.

A picture of the cluster that is changed by each action as the action would change it; faults stay in it until
a step heals them, which is the worst case: leases end by themselves. Where it cannot be known who leads by
then, the lowest number that could is taken. Pure. Called by the plan.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from esctl.cli.guard import QuorumChange
from esctl.errors import InvalidArgument
from esctl.faults import nodeorders
from esctl.faults.partitionshapes import Cut, Partition, Shape, listed, partition
from esctl.playbook.commands import command_of
from esctl.playbook.schema import Action, ActionKind
from esctl.playbook.stepkinds import ONE_OFF
from esctl.playbookerrors import UnplannableStep
from esnode.errors import NoQuorum

if TYPE_CHECKING:
    from esctl.playbook.answers import OutlookData


@dataclass(frozen=True, slots=True)
class FaultReach:
    """What a fault of a step does: nodes that are out, and links that are cut."""

    down: frozenset[int] = frozenset()
    cuts: frozenset[Cut] = frozenset()


@dataclass(frozen=True, slots=True)
class Outlook:
    """The quorum after a step, or while it acts."""

    text: str
    kept: bool

    @property
    def meanwhile(self) -> "Outlook":
        """The same, said of the time in which the step acts."""
        return Outlook(f"meanwhile {self.text}", self.kept)

    def as_data(self) -> "OutlookData":
        """For the JSON answer."""
        return {"text": self.text, "kept": self.kept}


@dataclass(frozen=True, slots=True)
class Forecast:
    """The picture. `faults` are by the step that set them."""

    voters: tuple[int, ...]
    leader: int | None
    down: frozenset[int] = frozenset()
    faults: Mapping[str, FaultReach] = field(default_factory=dict)

    @property
    def out(self) -> frozenset[int]:
        """Everybody who does not run, by a fault or otherwise."""
        return self.down.union(*(one.down for one in self.faults.values()))

    @property
    def cuts(self) -> frozenset[Cut]:
        """Every link that is cut."""
        return frozenset[Cut]().union(*(one.cuts for one in self.faults.values()))

    def outlook(self, before: "Forecast | None" = None) -> Outlook:
        """What the quorum is in it, in the words of `esctl/cli/guard.py`."""
        needed = len(self.voters) // 2 + 1
        runs = [node for node in self.voters if node not in self.out]
        if self.cuts and runs:
            cut = Partition(None, self.voters, self.cuts, self.out)
            able = [node for node in runs if cut.can_lead(node)]
            reach = max((cut.reach(node) for node in able or runs), key=len)
            side = f"nodes {listed(reach)} hear each other" if len(reach) > 1 else f"node {reach[0]} is alone"
            return Outlook(f"{side}: {cut.outcome(reach)}", bool(able))
        running = len(set(self.voters) - self.out)
        earlier = len(set(self.voters) - before.out) if before is not None else running
        return Outlook(QuorumChange(needed, earlier, running).text, running >= needed)

    def after(self, step: str, action: Action) -> tuple["Forecast", Outlook | None]:
        """The picture after an action, and what to say of it; None when it does not touch the quorum.

        Raises `UnplannableStep` where the action makes no sense on these nodes.
        """
        match action.kind:
            case ActionKind.FAULT if action.arguments.get("how") in ONE_OFF:
                node = _number(action.arguments.get("node")) or self._any_follower()
                return self, self._while_out("meanwhile ", node)
            case ActionKind.FAULT:
                struck = self._struck(step, action)
                new = self._settled(replace(self, faults={**self.faults, step: struck}))
                return new, new.outlook(self)
            case ActionKind.HEAL:
                gone = action.arguments.get("fault")
                healed = action.arguments.get("all") is True
                left = {} if healed else {one: s for one, s in self.faults.items() if one != gone}
                new = self._settled(replace(self, faults=left))
                return new, new.outlook(self)
            case ActionKind.BENCH if action.arguments.get("mode") == "failover":
                return self, self._while_out("while it strikes, ", self._presumed_leader())
            case _:
                return self._after_words(command_of(action))

    # --- faults ---------------------------------------------------------------------------------------

    def _struck(self, step: str, action: Action) -> FaultReach:
        given = action.arguments
        node = _number(given.get("node"))
        if node is not None and node not in self.voters:
            raise UnplannableStep(f"step {step}: there is no node {node}; there are {listed(self.voters)}")
        if given["type"] == "partition":
            return FaultReach(cuts=self._partition(step, Shape(given["shape"]), node).cuts)
        if given["type"] == "net":
            return FaultReach(cuts=frozenset(self._links(step, given)) if _cuts_links(given) else frozenset())
        if given["type"] == "freeze":
            return FaultReach(down=frozenset(self.voters))
        stops = given["type"] in ("kill", "pause") or given.get("how") in ("full", "fail")
        if not stops:
            return FaultReach()
        return FaultReach(down=frozenset([node if node is not None else self._any_follower()]))

    def _partition(self, step: str, shape: Shape, node: int | None) -> Partition:
        leader = self._presumed_leader() if self.leader is None else self.leader
        if shape is Shape.ISOLATE and node is None:  # it is named only then
            node = self._any_follower()
        try:
            return partition(shape, self.voters, leader, node, self.out)
        except (InvalidArgument, NoQuorum) as error:
            why = str(error).removesuffix("; nothing was done")
            raise UnplannableStep(f"step {step}: {why}", next_step=error.next_step) from error

    def _links(self, step: str, given: Mapping[str, Any]) -> list[Cut]:
        link = str(given.get("link", "all"))
        if "${" in link:
            return []
        try:
            return nodeorders.links_of(link, self.voters, one_way=given.get("one_way") is True)
        except InvalidArgument as error:
            raise UnplannableStep(f"step {step}: {str(error).removesuffix('; nothing was done')}") from error

    # --- commands -------------------------------------------------------------------------------------

    def _after_words(self, words: list[str]) -> tuple["Forecast", Outlook | None]:
        everybody = frozenset(self.voters)
        match words[:3]:
            case ["node", "stop" | "kill" | "pause" | "drain", number, *_] if number.isdigit():
                return self._with_down(self.down | {int(number)})
            case ["node", "start" | "resume", number, *_] if number.isdigit():
                return self._with_up(int(number))
            case ["node", "restart" | "replace", number, *_] if number.isdigit():
                return self, self._while_out("meanwhile ", int(number))
            case ["cluster", "restart", *_] if "--rolling" in words:
                return self, self._while_out("meanwhile ", self._any_follower())
            case ["cluster", "restart", *_]:
                return self._with_down(frozenset())[0], self._with_down(everybody)[1].meanwhile
            case ["cluster", "stop" | "down" | "destroy", *_]:
                return self._with_down(everybody)
            case ["cluster", "up" | "start" | "recover", *_]:
                return self._with_down(frozenset())
            case ["leader", "transfer", *_]:
                to = words[words.index("--to") + 1] if "--to" in words else ""
                return replace(self, leader=int(to) if to.isdigit() else None), self.outlook()
        return self, None

    def _with_up(self, node: int) -> tuple["Forecast", Outlook]:
        """Whatever has stopped it: a fault of its process ends with that, and with a new one it runs."""
        faults = {one: replace(struck, down=struck.down - {node}) for one, struck in self.faults.items()}
        return replace(self, faults=faults)._with_down(self.down - {node})

    def _with_down(self, down: frozenset[int]) -> tuple["Forecast", Outlook]:
        new = self._settled(replace(self, down=down))
        return new, new.outlook(self)

    def _while_out(self, when: str, node: int) -> Outlook:
        without = replace(self, down=self.down | {node}).outlook(self)
        return Outlook(when + without.text, without.kept)

    # --- who leads ------------------------------------------------------------------------------------

    def _settled(self, new: "Forecast") -> "Forecast":
        """The same with nobody named as leader when the one that led can lead no longer."""
        cut = Partition(None, new.voters, new.cuts, new.out)
        return new if new.leader is None or cut.can_lead(new.leader) else replace(new, leader=None)

    def _presumed_leader(self) -> int:
        cut = Partition(None, self.voters, self.cuts, self.out)
        able = [node for node in self.voters if cut.can_lead(node)]
        if self.leader is not None and self.leader in (able or self.voters):
            return self.leader
        return (able or [node for node in self.voters if node not in self.out] or list(self.voters))[0]

    def _any_follower(self) -> int:
        """Stands for a node that is chosen only when the step is done."""
        leader = self._presumed_leader()
        others = [node for node in self.voters if node != leader and node not in self.out]
        return others[0] if others else leader


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _cuts_links(given: Mapping[str, Any]) -> bool:
    """Does it let nothing through?"""
    shares = [given.get(name) for name in ("drop", "reset")]
    total = [share for share in shares if isinstance(share, str) and "${" not in share]
    return given.get("stall") is True or any(nodeorders.permille(share) == 1000 for share in total)
