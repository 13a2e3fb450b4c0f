"""Asks the cluster for what expressions read: `status`, `health`, `faults`, `cluster`, `load`, `verify`.

Asks only what is read, each once a look. A cluster that is not there yet has no values: expressions on it
cannot be judged then. Decides nothing and never prints. Called by the run.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from esctl.bench import backgroundloads
from esctl.clusters import state
from esctl.errors import ClusterNotFound
from esctl.faults import leases
from esctl.playbook import clustervalues, exactlyonce
from esctl.query import checkup as checkups
from esctl.query import survey as surveys

if TYPE_CHECKING:
    from esctl.query.survey import Survey

_SURVEYED: Final = frozenset({"status", "cluster", "faults"})


class Values(Protocol):
    """Where expressions get their live values from; tests have a script."""

    async def gather(self, roots: Collection[str], wait_s: float) -> dict[str, Any]:
        """A table for each of the roots that is known here and can be known now.

        `wait_s` is how long the exactly-once check may wait for nodes that are behind.
        """


class LiveValues:
    """Those of a cluster of this machine. `loads` are the directories of the run's loads, the newest last."""

    def __init__(self, cluster: str, loads: Callable[[], Sequence[Path]]) -> None:
        self._name = cluster
        self._loads = loads

    async def gather(self, roots: Collection[str], wait_s: float) -> dict[str, Any]:
        """See `Values`."""
        values: dict[str, Any] = {}
        loads = self._loads()
        if "load" in roots and loads:
            values["load"] = load_facts(loads[-1])
        try:
            cluster = state.load(self._name)
        except ClusterNotFound:
            return values
        survey = None
        if "health" in roots:
            checkup = await checkups.examine(cluster)
            values["health"], survey = clustervalues.health(checkup), checkup.survey
        if _SURVEYED & set(roots):
            survey = survey or await surveys.ask(cluster)
            values["status"], values["cluster"] = clustervalues.status(survey), clustervalues.cluster(survey)
            values["faults"] = faults_of(survey)
        if "verify" in roots:
            values["verify"] = await exactlyonce.verify(cluster, loads, wait_s)
        return values


def faults_of(survey: "Survey") -> dict[str, Any]:
    """`faults.*`: what one command has set on several nodes counts once."""
    on_nodes = {fault["id"].partition(".")[0] for report in survey.up for fault in report.faults}
    stopped = {one.id for one in leases.active(survey.cluster)}
    allowed = [bool((report.status or {}).get("faults_allowed")) for report in survey.up]
    return {"active": len(on_nodes | stopped), "allowed": bool(allowed) and all(allowed)}


def load_facts(directory: Path) -> dict[str, Any]:
    """`load.*`: the newest sample. A load that was killed runs no longer, whatever its last sample says."""
    load = backgroundloads.at(directory, directory.name)
    sample = dict(load.sample)
    return {**sample, "running": load.running and bool(sample.get("running"))} if sample else {}
