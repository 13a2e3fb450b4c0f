"""Bugs around the core: the driver, those who wait, sessions, readers, the disk's worker, and the client."""

from typing import Final

from tests.simulation.mutants.mutant import Edit, Mutant

LATENESS: Final = "esnode.client.lateness"
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
        "step-down-keeps-pending-requests",
        "promise 5",
        "a request that is pending when its leader steps down is acked when another leader's entry is"
        " applied at the same index",
        "A",
        (Edit(WAITING, "lost, self._due = self._due, []", "lost = self._due[:0]"),),
    ),
    Mutant(
        "batch-of-a-past-term-stays-pending",
        "promise 5",
        "a batch stays pending if it was appended in the same turn of the event loop in which the node"
        " learned of a newer leader",
        "T",
        (Edit(WAITING, "elif decision.term != leading_term:", "elif decision.term == 0:"),),
        "tests/loop/test_waiting.py::test_a_decision_of_a_term_that_is_over_is_never_acked",
    ),
    Mutant(
        "acked-one-entry-early",
        "promise 1",
        "waiting clients are answered when the entry before their own is applied",
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
        "messages-sent-before-the-write",
        "#18",
        "messages that must wait until a write is durable are sent as soon as the write is submitted",
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
        "a message that belongs to no write of its own does not wait for the writes submitted before it",
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
        "the core is told that a write is durable as soon as the write has been submitted",
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
        "leader-reads-without-confirmation",
        "#23",
        "the session of a node that believes it is the leader serves linearizable reads immediately",
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
        "a read that the core has refused is served anyway",
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
        "readers at the end of the log get uncommitted entries",
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
        "waiting-clients-not-told-of-step-down",
        "promise 5",
        "waiting clients are not told that the node no longer leads",
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
        "commit-runs-later-callbacks",
        "#9",
        "when one commit completes, the callbacks of writes submitted after it run too",
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
        "core-told-of-a-longer-compaction",
        "#12",
        "the core is told that the deleted prefix is one entry longer than it is",
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
        "sent-request-reported-as-not-done",
        "promise 5",
        "when a connection is lost, the client reports a request that it had already sent as certainly"
        " not done",
        "B",
        (
            Edit(
                LATENESS,
                "if request is not None and request.sends:",
                "if request is not None and request.sent_on is not None:",
            ),
        ),
    ),
    Mutant(
        "lost-leadership-reported-as-not-done",
        "promise 5",
        "a node that stops leading refuses its pending requests as if it had never accepted them",
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
