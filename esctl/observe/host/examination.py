"""All checks of the machine, one after the other. Called by `esctl doctor` and the support archive."""

from collections.abc import Iterator
from pathlib import Path

from esctl.observe.host import clock, disk, leftovers, software
from esctl.observe.host.checkresult import CheckResult


def examine(data_dir: Path | None = None, about: str | None = None) -> Iterator[CheckResult]:
    """What each check finds; `data_dir` is where data would be kept. Takes a second at most.

    The trouble of clusters other than `about` is one line.
    """
    yield from software.findings()
    yield from clock.findings()
    yield from disk.findings(data_dir)
    yield from leftovers.findings(about)
