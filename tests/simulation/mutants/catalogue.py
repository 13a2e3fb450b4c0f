"""All planted bugs, by name. The bugs are in the files beside this one, by the module they are in."""

from typing import Final

from tests.simulation.mutants.checkpoints import CHECKPOINTS
from tests.simulation.mutants.deduplication import DEDUPLICATION
from tests.simulation.mutants.disks import DISKS
from tests.simulation.mutants.elections import ELECTIONS
from tests.simulation.mutants.machine import MACHINE
from tests.simulation.mutants.mutant import Mutant
from tests.simulation.mutants.ordering import ORDERING
from tests.simulation.mutants.placing import PLACING
from tests.simulation.mutants.reads import READ_BUGS
from tests.simulation.mutants.rejoining import REJOINING
from tests.simulation.mutants.replicating import REPLICATING
from tests.simulation.mutants.ringmoves import RING_MOVES
from tests.simulation.mutants.snapshots import SNAPSHOTS
from tests.simulation.mutants.whole_node import WHOLE_NODE

CATALOGUE: Final = (
    *ELECTIONS,
    *REPLICATING,
    *READ_BUGS,
    *DEDUPLICATION,
    *MACHINE,
    *CHECKPOINTS,
    *SNAPSHOTS,
    *DISKS,
    *REJOINING,
    *WHOLE_NODE,
    *ORDERING,
    *PLACING,
    *RING_MOVES,
)
SOUND: Final[dict[str, Mutant]] = {
    f"sound-{tier}": Mutant(f"sound-{tier}", "", "no bug at all", tier, ()) for tier in "ABR"
}
"""What no seed may see anything in."""
BY_NAME: Final[dict[str, Mutant]] = {mutant.name: mutant for mutant in CATALOGUE}
