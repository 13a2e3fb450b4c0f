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
        "core-accepts-after-a-refusal",
        "promise 6",
        "after the leader has refused a batch, it accepts the batches that the client had sent after it",
        "B",
        (Edit(APPEND_ORDER, "self._run, self._term = run, 0", "self._run = run"),),
    ),
    Mutant(
        "session-accepts-after-a-refusal",
        "promise 6",
        "after a session has refused a batch for lack of room, it accepts a smaller batch that the client"
        " had sent after it",
        "T",
        (Edit(SESSION, "if not taken:", "if not taken and batch.partition:"),),
        "tests/server/test_session.py"
        "::test_what_follows_a_batch_that_has_no_room_is_refused_and_the_next_run_is_taken",
    ),
    Mutant(
        "run-continues-after-lost-leadership",
        "promise 6",
        "a node that leads again accepts the rest of a client's series of batches, although the batches"
        " that it had accepted before are lost",
        "T",
        (Edit(APPEND_ORDER, "return term == self._term", "return self._term > 0"),),
        "tests/raft/test_requests.py::test_a_run_that_began_under_an_earlier_leadership_is_over",
    ),
    Mutant(
        "resends-the-newest-first",
        "promise 6",
        "a client that resends its batches begins with the newest instead of the oldest",
        "B",
        (
            Edit(
                DISPATCHER,
                "for request in self.appends():\n    if request.stray:",
                "for request in reversed(self.appends()):\n    if request.stray:",
            ),
        ),
    ),
    Mutant(
        "resends-before-all-answers",
        "promise 6",
        "a client starts a new series of batches without waiting for the answers to batches in flight,"
        " which may still be refused",
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
        "batch-overtakes-single-events",
        "promise 6",
        "a batch is sent before single events that were queued before it",
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
        "later-call-overtakes-a-waiting-one",
        "promise 6",
        "later calls are sent while an earlier call still waits to learn what became of events that were"
        " given up",
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
