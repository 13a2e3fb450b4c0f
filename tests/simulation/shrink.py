"""Makes the tape of a failing run shorter, and keeps it failing by the same rule.

Delta debugging (Zeller and Hildebrandt, 2002): leave out ever smaller pieces of faults and operations, and
go on with whatever still fails. What happens after the failure goes first. Used by the command line.
"""

from collections.abc import Callable, Sequence

from .tape import Fault, Operation, Tape

Item = Fault | Operation
Fails = Callable[[Tape], bool]
"""Whether a run with this tape breaks the rule that is looked for."""


def shrink(tape: Tape, failed_at_ns: int, fails: Fails, progress: Callable[[int], None]) -> Tape:
    """A shorter tape that fails; `tape` itself where nothing can be left out."""
    items: list[Item] = sorted([*tape.faults, *tape.operations], key=lambda item: item.at_ns)
    early = [item for item in items if item.at_ns <= failed_at_ns]
    if fails(_tape(early)):
        items = early
    pieces = 2
    while len(items) > 1:
        size = -(-len(items) // pieces)
        for begin in range(0, len(items), size):
            rest = items[:begin] + items[begin + size :]
            if fails(_tape(rest)):
                items, pieces = rest, max(2, pieces - 1)
                progress(len(items))
                break
        else:
            if size == 1:
                break
            pieces = min(len(items), 2 * pieces)
    return _tape(items)


def _tape(items: Sequence[Item]) -> Tape:
    return Tape(
        tuple(item for item in items if isinstance(item, Fault)),
        tuple(item for item in items if isinstance(item, Operation)),
    )
