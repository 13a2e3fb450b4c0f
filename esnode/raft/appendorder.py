"""How far one client's appends may be taken: the leader's half of "in the order in which they were sent".

Appends of one connection come in runs, numbered by the client. What the leader takes of a run is a prefix:
once one append is refused, or the leadership in which the run began is over, all that follows in the run
is refused too. The client then begins a new run with the first append that has no answer. A node keeps one
of these for each connection, as long as that lasts; `session.py` makes it, `requests.py` asks it.
"""


class AppendOrder:
    """The appends of one connection."""

    __slots__ = ("_run", "_term")

    def __init__(self) -> None:
        self._run = -1
        self._term = 0

    def takes(self, run: int, term: int) -> bool:
        """Whether the leader of `term` may take the next append of `run`."""
        if run != self._run:
            self._run, self._term = run, term
        return term == self._term

    def end(self, run: int) -> None:
        """An append of `run` was refused: nothing after it may be taken."""
        self._run, self._term = run, 0
