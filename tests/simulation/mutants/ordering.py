"""Bugs in the order of one client: on its way out, in its session, and at the leader."""

from typing import Final

from tests.simulation.mutants.mutant import Edit, Mutant

BATCHER: Final = "esnode.client.batcher"
DISPATCHER: Final = "esnode.client.dispatcher"
PRODUCER: Final = "esnode.client.producer"
RUNS: Final = "esnode.client.runs"
SESSION: Final = "esnode.server.session"
APPEND_ORDER: Final = "esnode.raft.appendorder"

ORDERING: Final = (
    Mutant(
        "core-forgets-the-refused-run",
        "promise 6",
        "a leader that has refused a batch takes those that were sent behind it",
        "B",
        (Edit(APPEND_ORDER, "self._run, self._term = run, 0", "self._run = run"),),
    ),
    Mutant(
        "session-forgets-the-refused-run",
        "promise 6",
        "a session that has no room for a batch takes a smaller one behind it",
        "T",
        (Edit(SESSION, "if not taken:", "if not taken and batch.partition:"),),
        "tests/server/test_session.py"
        "::test_what_follows_a_batch_that_has_no_room_is_refused_and_the_next_run_is_taken",
    ),
    Mutant(
        "run-outlives-its-leadership",
        "promise 6",
        "a node that leads again goes on with a run of which it had taken a part that is gone",
        "T",
        (Edit(APPEND_ORDER, "return term == self._term", "return self._term > 0"),),
        "tests/raft/test_requests.py::test_a_run_that_began_under_an_earlier_leadership_is_over",
    ),
    Mutant(
        "goes-back-to-the-newest",
        "promise 6",
        "a client that goes back begins with what it sent last",
        "B",
        (
            Edit(
                DISPATCHER,
                "for request in self.appends():\n    self._send_append(request)",
                "for request in reversed(self.appends()):\n    self._send_append(request)",
            ),
        ),
    ),
    Mutant(
        "next-run-does-not-wait",
        "promise 6",
        "what a client begins anew leaves out what is under way and may yet be refused",
        "B",
        (
            Edit(
                RUNS,
                "if self._due or trio.current_time() < self._next_at:",
                "if trio.current_time() < self._next_at:",
            ),
            Edit(RUNS, "return inf if self._due else self._next_at", "return self._next_at"),
        ),
    ),
    Mutant(
        "batch-passes-single-events",
        "promise 6",
        "a batch leaves before the single events that were appended before it",
        "B",
        (
            Edit(
                BATCHER,
                "gathering.full.set()  # what comes now is behind `whole`\ngathering.ask(self._window)",
                "gathering.full.is_set()",
            ),
        ),
    ),
    Mutant(
        "call-in-doubt-is-overtaken",
        "promise 6",
        "while a call waits for what was given up, later calls leave",
        "B",
        (
            Edit(
                PRODUCER,
                "if not self._turns and not self._doubts(keys):",
                "if not self._doubts(keys):",
            ),
        ),
    ),
)
