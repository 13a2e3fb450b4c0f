"""Bugs around the core: the driver, those who wait, sessions, readers, the disk's worker, and the client."""

from typing import Final

from tests.simulation.mutants.mutant import Edit, Mutant

DISPATCHER: Final = "esnode.client.dispatcher"
DRIVER: Final = "esnode.loop.driver"
INGEST: Final = "esnode.server.ingest"
LOG: Final = "esnode.raft.log"
READING: Final = "esnode.server.reading"
REPLICATION: Final = "esnode.replication.replication"
RETENTION: Final = "esnode.upkeep.retention"
SESSION: Final = "esnode.server.session"
WAITING: Final = "esnode.loop.waiting"
WORKER: Final = "esnode.storage.worker"

WHOLE_NODE: Final = (
    Mutant(
        "acked-when-appended",
        "#18",
        "a batch is acked when the leader has appended it, not when it is applied",
        "A",
        (Edit(WAITING, "elif decision.wait_index <= applied_index:", "elif decision.wait_index:"),),
    ),
    Mutant(
        "step-down-forgets-who-waits",
        "promise 5",
        "what waits when a leader steps down is acked when a stranger's entry is applied at its place",
        "A",
        (Edit(WAITING, "lost, self._due = self._due, []", "lost = self._due[:0]"),),
    ),
    Mutant(
        "decision-of-another-term-waits",
        "promise 5",
        "a batch that was appended in the very round in which a newer leader was heard of waits on",
        "T",
        (Edit(WAITING, "elif decision.term != leading_term:", "elif decision.term == 0:"),),
        "tests/loop/test_waiting.py::test_a_decision_of_a_term_that_is_over_is_never_acked",
    ),
    Mutant(
        "acked-one-entry-early",
        "promise 1",
        "those who wait are answered when the entry before theirs is applied",
        "A",
        (
            Edit(
                WAITING,
                "while self._due and self._due[0].wait_index <= index:",
                "while self._due and self._due[0].wait_index <= index + 1:",
            ),
        ),
    ),
    Mutant(
        "messages-do-not-wait-for-the-write",
        "#18",
        "what may be said only after a write is said when the write is handed to the disk",
        "A",
        (
            Edit(
                DRIVER,
                "self._worker.submit(write, partial(self._durable, write.write_id, messages_after))",
                """
                self._release(messages_after)
                self._worker.submit(write, partial(self._durable, write.write_id, ()))
                """,
            ),
        ),
    ),
    Mutant(
        "messages-overtake-an-older-write",
        "#18",
        "a message without a write of its own does not wait for the writes before it",
        "A",
        (
            Edit(
                DRIVER,
                "self._worker.submit(None, partial(self._release, ready.messages_after))",
                "self._release(ready.messages_after)",
            ),
        ),
    ),
    Mutant(
        "durable-when-submitted",
        "#7",
        "the core hears that a write is durable when the disk has been given it",
        "A",
        (
            Edit(
                DRIVER,
                "self._worker.submit(write, partial(self._durable, write.write_id, messages_after))",
                """
                self._inbox.put(Persisted(write.write_id))
                self._worker.submit(write, partial(self._release, messages_after))
                """,
            ),
        ),
    ),
    Mutant(
        "leader-reads-without-asking",
        "#23",
        "the session of a node that believes to lead serves linearizable reads at once",
        "B",
        (
            Edit(
                SESSION,
                "if request.linearizable:\n    await self._wait_linearizable()"
                "\n    if request.from_offset != limits.MAX_INDEX:  # that asks where the end is",
                "if request.linearizable and not self._services.view.leads:"
                "\n    await self._wait_linearizable()"
                "\n    if request.from_offset != limits.MAX_INDEX:  # that asks where the end is",
            ),
        ),
    ),
    Mutant(
        "refused-read-served",
        "thesis 6.4",
        "a read that the core has refused is served all the same",
        "T",
        (
            Edit(
                SESSION,
                "if answer[0].refusal is not None:",
                "if answer[0].refusal is not None and not self._services.view.applied_index:",
            ),
        ),
        "tests/loop/test_answers_due.py::test_a_read_that_the_core_refuses_is_refused_to_the_client",
    ),
    Mutant(
        "uncommitted-tail-read",
        "promise 3",
        "readers at the tail are given entries that are not committed",
        "B",
        (
            Edit(
                LOG,
                "return self.slice(indexes[first], self.applied, max_bytes)",
                "return self.slice(indexes[first], self.last_index, max_bytes)",
            ),
        ),
    ),
    Mutant(
        "step-down-not-told",
        "promise 5",
        "those who wait do not hear that this node leads no longer",
        "T",
        (
            Edit(
                INGEST,
                """
                self._waiting.leadership_over()
                for session in self._sessions:
                """,
                "for session in self._sessions:",
            ),
        ),
        "tests/loop/test_answers_due.py::test_those_who_wait_hear_at_once_that_their_leader_leads_no_longer",
    ),
    Mutant(
        "every-write-called-back",
        "#9",
        "the end of one commit calls back for the writes that were submitted since",
        "T",
        (
            Edit(
                WORKER,
                "for _ in range(result.count):",
                "for _ in range(sum(one.is_write for one in self._submitted)):",
            ),
        ),
        "tests/loop/test_answers_due.py"
        "::test_a_commit_calls_back_for_its_own_writes_and_not_for_those_that_came_meanwhile",
    ),
    Mutant(
        "core-told-of-a-longer-cut",
        "#12",
        "the core hears of a prefix that is one entry longer than the one that was cut",
        "B",
        (
            Edit(
                RETENTION,
                "self._inbox.put(PrefixCut(prefix.applied_index))",
                "self._inbox.put(PrefixCut(min(prefix.applied_index + 1, self._view.applied_index)))",
            ),
        ),
    ),
    Mutant(
        "sent-request-called-certainly-not-done",
        "promise 5",
        "the client says that a request was certainly not done because its connection is gone",
        "B",
        (
            Edit(
                DISPATCHER,
                "if request is not None and request.sends:",
                "if request is not None and request.sent_on is not None:",
            ),
        ),
    ),
    Mutant(
        "lost-leadership-called-certainly-not-done",
        "promise 5",
        "a node that stops leading refuses what waits as if it had never been taken",
        "B",
        (
            Edit(
                WAITING,
                "return Decision(decision.token, decision.term, 0, (), 0, Refusal.LEADERSHIP_LOST)",
                "return Decision(decision.token, decision.term, 0, (), 0, Refusal.WINDOW_FULL)",
            ),
        ),
    ),
)
