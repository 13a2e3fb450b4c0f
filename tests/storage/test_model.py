"""Each engine against plain lists: any order of writes, cuts, restarts and reads (Hypothesis)."""

import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run

from esnode.raft.entry import Entry
from esnode.raft.messages import HardState, Snapshot, Write
from esnode.storage.interface import TermRun
from tests.storage.logs import WHOLE, all_of, entries, snapshot_of, write
from tests.storage.places import place_of

COUNTS = st.lists(st.integers(0, 3), min_size=1, max_size=40)


class Model(RuleBasedStateMachine):
    """The list is the truth; the engine must say the same."""

    engine = "memory"
    path: Path

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Entry] = []
        self.prefix = Snapshot(0, 0, 0, 0, b"")
        self.hard_state = HardState(0, None)
        self.commit = 0
        self.waiting: list[Write] = []

    @initialize()
    def open(self) -> None:
        directory = Path(tempfile.mkdtemp(dir=self.path))
        self.place = place_of(self.engine, directory)
        self.storage = self.place.open()

    @property
    def last_index(self) -> int:
        return self.log[-1].index if self.log else self.prefix.index

    @property
    def next_offset(self) -> int:
        return self.log[-1].next_offset if self.log else self.prefix.next_offset

    @property
    def last_term(self) -> int:
        return self.log[-1].term if self.log else self.prefix.term

    @rule(counts=COUNTS, later=st.integers(0, 2))
    def append(self, counts: list[int], later: int) -> None:
        new = entries(
            self.last_index + 1, counts, term=max(1, self.last_term + later), base_offset=self.next_offset
        )
        self.log += new
        self.waiting.append(write(new, commit=self.commit))

    @precondition(lambda self: self.log and self.last_index > self.commit)
    @rule(counts=COUNTS, data=st.data())
    def replace_a_tail(self, counts: list[int], data: st.DataObject) -> None:
        last_term = self.last_term
        keep = data.draw(st.integers(max(self.commit, self.prefix.index), self.last_index - 1))
        self.log = [each for each in self.log if each.index <= keep]
        new = entries(keep + 1, counts, term=last_term + 1, base_offset=self.next_offset)
        self.log += new
        self.waiting.append(write(new, commit=self.commit))

    @rule(vote=st.sampled_from([None, 1, 2, 3]), later=st.integers(1, 3))
    def vote(self, vote: int | None, later: int) -> None:
        self.hard_state = HardState(self.hard_state.term + later, vote)
        self.waiting.append(write(hard_state=self.hard_state, commit=self.commit))

    @rule(data=st.data())
    def commit_more(self, data: st.DataObject) -> None:
        self.commit = data.draw(st.integers(self.commit, self.last_index))
        self.waiting.append(write(commit=self.commit))

    @rule(ahead=st.integers(0, 9), size=st.integers(0, 5000), counts=st.lists(st.integers(0, 3), max_size=3))
    def install(self, ahead: int, size: int, counts: list[int]) -> None:
        index = max(self.commit, self.prefix.index) + ahead
        if index <= self.prefix.index:
            return
        offset = self.next_offset + ahead
        self.prefix = Snapshot(index, self.last_term + 1, offset, 10 * index, bytes(size))
        self.log = list(entries(index + 1, counts, term=self.prefix.term, base_offset=offset))
        self.commit = index
        self.waiting.append(write(self.log, snapshot=self.prefix, commit=index))

    @precondition(lambda self: self.log and self.commit > self.prefix.index)
    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        self.make_durable()
        index = data.draw(st.integers(self.prefix.index + 1, self.commit))
        last = next(each for each in self.log if each.index == index)
        self.prefix = snapshot_of(last, b"up to %d" % index)
        self.log = [each for each in self.log if each.index > index]
        self.storage.cut_prefix(self.prefix)

    @rule()
    def make_durable(self) -> None:
        self.storage.write(self.waiting)
        self.waiting.clear()

    @rule()
    def tend(self) -> None:
        self.storage.tend()

    @rule()
    def restart(self) -> None:
        # A hint that came alone is kept in memory until something else is written.
        self.waiting.append(write(hard_state=HardState(self.hard_state.term + 1, None), commit=self.commit))
        self.hard_state = HardState(self.hard_state.term + 1, None)
        self.make_durable()
        self.storage = self.place.reopened(self.storage)

    @precondition(lambda self: not self.waiting)
    @rule(data=st.data(), max_bytes=st.integers(0, 2000))
    def read_a_part(self, data: st.DataObject, max_bytes: int) -> None:
        first = data.draw(st.integers(max(0, self.prefix.index - 1), self.last_index + 1))
        last = data.draw(st.integers(first, self.last_index + 2))
        expected: list[Entry] = []
        for each in self.log if first > self.prefix.index else ():
            if first <= each.index <= last:
                if expected and sum(e.size_bytes for e in expected) + each.size_bytes > max_bytes:
                    break
                expected.append(each)
        assert all_of(self.storage.read(first, last, max_bytes)) == all_of(expected)

    @precondition(lambda self: not self.waiting)
    @rule(data=st.data())
    def find_an_offset(self, data: st.DataObject) -> None:
        offset = data.draw(st.integers(max(0, self.prefix.next_offset - 2), self.next_offset + 2))
        holders = [each.index for each in self.log if each.base_offset <= offset < each.next_offset]
        if offset < (self.log[0].base_offset if self.log else self.prefix.next_offset):
            holders = [self.prefix.index + 1]
        assert self.storage.index_of_offset(offset) == (holders or [self.last_index + 1])[0]

    @precondition(lambda self: not self.waiting)
    @invariant()
    def the_engine_says_the_same(self) -> None:
        found = self.storage.recover()
        runs: list[TermRun] = []
        for each in self.log:
            if not runs or runs[-1].term != each.term:
                runs.append(TermRun(each.index, each.term))
        assert (found.hard_state, found.commit) == (self.hard_state, self.commit)
        assert (found.prefix_index, found.prefix_term) == (self.prefix.index, self.prefix.term)
        assert (found.last_index, found.terms) == (self.last_index, tuple(runs))
        assert all_of(self.storage.read(self.prefix.index + 1, 10**6, WHOLE)) == all_of(self.log)
        assert self.storage.size_bytes() == sum(each.size_bytes for each in self.log)
        assert self.storage.load_snapshot() == (self.prefix if self.prefix.index else None)

    def teardown(self) -> None:
        self.place.close()


def run_model(engine: str, path: Path, examples: int, steps: int) -> None:
    model = type("Model", (Model,), {"engine": engine, "path": path})
    run(model, settings=settings(max_examples=examples, stateful_step_count=steps))


@pytest.mark.parametrize(
    ("engine", "examples"),
    [("memory", 60), ("sqlite", 25), ("segments", 25), ("small segments", 25), ("rocksdb", 10)],
)
def test_an_engine_is_a_list_that_lasts(engine: str, examples: int, quick_path: Path) -> None:
    run_model(engine, quick_path, examples, steps=30)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "examples"),
    [("memory", 200), ("sqlite", 80), ("segments", 80), ("small segments", 80), ("rocksdb", 40)],
)
def test_an_engine_is_a_list_that_lasts_for_long(engine: str, examples: int, quick_path: Path) -> None:
    run_model(engine, quick_path, examples, steps=60)
