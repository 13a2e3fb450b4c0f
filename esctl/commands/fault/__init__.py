"""`esctl fault`: break links, disks, clocks and nodes on purpose, and show that it hits.

The nodes themselves enforce the lease, so nothing depends on this command once it has acted; a node that was
started without faults allowed refuses. Each command says what the quorum would be before it acts, and looks
at the nodes afterwards: applied, no effect, or unknown. One module for each thing that is broken.
"""

from collections.abc import Iterable

from esctl.cli.invocation import command, new_typer
from esctl.commands.fault import active, clock, coverage, disk, links, processes, storm
from esctl.faults.partitionshapes import MEANINGS

app = new_typer()


def meanings(of: Iterable[tuple[str, str]]) -> str:
    """What the words mean that a command's first argument takes, as its help has them."""
    return "\n".join(f"{word}: {what}" for word, what in of)


command(app, "partition", partitions=True, epilog=meanings(MEANINGS.items()))(links.cut)
command(app, "net", partitions=True)(links.net)
command(app, "disk", partitions=True, epilog=meanings(disk.MEANINGS.items()))(disk.disk)
command(app, "clock", partitions=True, epilog=meanings(clock.MEANINGS.items()))(clock.clock)
command(app, "kill", partitions=True)(processes.kill)
command(app, "pause", partitions=True)(processes.pause)
command(app, "freeze", partitions=True)(processes.freeze)
command(app, "ls", partitions=True)(active.ls)
command(app, "heal", partitions=True)(active.heal)
command(app, "coverage", partitions=True)(coverage.coverage)
command(app, "storm", partitions=True)(storm.storm)
