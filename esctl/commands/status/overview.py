"""`esctl status`: asks every node for every partition; shows the nodes or, of several, the partitions."""

from typing import TYPE_CHECKING, Annotated

from esctl.cli.durationoption import duration_option
from esctl.cli.invocation import Invocation
from esctl.clusters.backends.interface import ANSWER_TIMEOUT_S
from esctl.commands.status import table
from esctl.ui.answer import Answer

if TYPE_CHECKING:
    from esctl.commands.status.table import StatusAnswer


def status(
    run: Invocation,
    timeout: Annotated[
        float, duration_option("--timeout", "Time for each node to answer", low_s=0.05)
    ] = ANSWER_TIMEOUT_S,
) -> "Answer[StatusAnswer]":
    """Show the role, log, lag and memory of every node, and whether a majority is up"""
    from esctl.commands.status import ringtable  # loaded late: it brings trio and the client
    from esctl.query import ringsurvey

    cluster = run.cluster()
    found = run.trio(lambda: ringsurvey.ask(cluster, timeout))
    for warning in ringtable.warnings(found):
        run.terminal.warn(warning)
    return table.answer_of(found.worst) if cluster.partitions == 1 else ringtable.answer_of(found)
