"""A plain mutation fuzzer: nothing to install, one seed one run, thousands of cases a second.

Inputs that lead to words never heard before join the pool for the rest of the run. What a target raises
is a finding: told apart by type and place, made small, kept in the corpus. Called by `__main__` and the
bounded run of the test suite.
"""

import hashlib
import random
import signal
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final

from .mutation import mutated
from .target import CORPUS, Finding, Target

MAX_POOL: Final = 2_000
MAX_KEPT: Final = 60
MAX_KEPT_BYTES: Final = 400
"""Of the corpus: files a target, and bytes of one that is kept for being new."""
MAX_CASE_S: Final = 10.0
"""Of processor time, so that a busy machine makes no case look endless."""
_SHRINK_TRIES: Final = 400


@dataclass(frozen=True, slots=True)
class Found:
    """An input that brought out what no door may let out."""

    target: str
    where: str
    error: str
    data: bytes
    report: str

    @property
    def name(self) -> str:
        """The file's, in the corpus."""
        return _name("crash", self.data)

    def keep(self, corpus: Path = CORPUS) -> Path:
        """Write it into the corpus; from then on every test run replays it."""
        return _keep(corpus / self.target / self.name, self.data)


@dataclass(slots=True)
class Tally:
    """One target's run."""

    target: str
    cases: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    """How often each word came out, by its first part."""
    found: dict[str, Found] = field(default_factory=dict)
    news: list[bytes] = field(default_factory=list)
    """Inputs that led to a word never heard before in this run, those of the pool not counted."""

    def add(self, other: "Tally") -> None:
        """Count in what another part of the run has done."""
        self.cases += other.cases
        self.seconds += other.seconds
        self.outcomes += other.outcomes
        self.found = other.found | self.found
        self.news += other.news


def keep_news(tally: Tally, corpus: Path = CORPUS) -> int:
    """Put what was new into the corpus, the smallest first, as far as it is to grow; returns how many."""
    here = corpus / tally.target
    room = MAX_KEPT - len(list(here.glob("*")))
    small = sorted((data for data in tally.news if len(data) <= MAX_KEPT_BYTES), key=len)[: max(0, room)]
    for data in small:
        _keep(here / _name("seed", data), data)
    return len(small)


def _name(kind: str, data: bytes) -> str:
    return f"{kind}-{hashlib.blake2b(data, digest_size=4).hexdigest()}.bin"


def _keep(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def attempt(target: Target, data: bytes) -> tuple[str, Found | None]:
    """Run one case: what became of it, or the finding. Main thread only, for its watchdog."""
    before = signal.signal(signal.SIGVTALRM, _give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, MAX_CASE_S)
    try:
        return target.run(data), None
    except Exception as error:  # noqa: BLE001 - whatever a target does not expect is what is looked for
        frames = traceback.extract_tb(error.__traceback__)
        inner = next((frame for frame in reversed(frames) if "/esnode/" in frame.filename), frames[-1])
        where = f"{type(error).__name__} at {Path(inner.filename).name}:{inner.lineno} ({inner.name})"
        report = "".join(traceback.format_exception(error))
        return "finding", Found(target.name, where, f"{type(error).__name__}: {error}", data, report)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise Finding(f"a case has computed for {MAX_CASE_S:g} s and has no end")


def fuzz(target: Target, cases: int, seed: int) -> Tally:
    """`cases` cases of one target; the same ones for the same seed and corpus."""
    source = random.Random(f"{seed}:{target.name}")
    pool = target.pool()
    tally = Tally(target.name)
    heard: set[str] = set()
    begun = time.perf_counter()
    for data in pool[:cases]:
        _note(tally, target, data, heard)
    while tally.cases < cases:
        data = mutated(source, pool)
        if _note(tally, target, data, heard):
            tally.news.append(data)
            if len(pool) < MAX_POOL:
                pool.append(data)
            else:
                pool[source.randrange(MAX_POOL)] = data
    tally.seconds = time.perf_counter() - begun
    return tally


def _note(tally: Tally, target: Target, data: bytes, heard: set[str]) -> bool:
    """Run and count one case; tells whether it said something new."""
    word, found = attempt(target, data)
    tally.cases += 1
    tally.outcomes[word.partition(" ")[0]] += 1
    if found is not None and found.where not in tally.found:
        tally.found[found.where] = _shrunk(target, found)
    new = word not in heard
    heard.add(word)
    return new


def _shrunk(target: Target, found: Found) -> Found:
    """The same finding from fewer bytes: leave out ever smaller pieces."""
    tries, size = 0, max(1, len(found.data) // 2)
    while tries < _SHRINK_TRIES:
        begin, smaller = 0, False
        while begin < len(found.data) and tries < _SHRINK_TRIES:
            tries += 1
            _, again = attempt(target, found.data[:begin] + found.data[begin + size :])
            if again is not None and again.where == found.where:
                found, smaller = again, True
            else:
                begin += size
        if size == 1 and not smaller:
            break
        size = max(1, size // 2)
    return found
