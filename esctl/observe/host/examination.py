"""All checks of the machine, one after the other. Called by `esctl doctor` and the support archive."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from esctl.observe.host import clock, disk, leftovers, software
from esctl.observe.host.checkresult import CheckResult
from esnode.errors import EventStreamError


def examine(data_dir: Path | None = None, about: str | None = None) -> Iterator[CheckResult]:
    """What each check finds; `data_dir` is where data would be kept. Takes a second at most.

    The trouble of clusters other than `about` is one line. A check that cannot be made is a warning: what is
    looked at may be changed or removed meanwhile, and the other checks count all the same.
    """
    yield from _guarded("software", software.findings())
    yield from _guarded("clocks", clock.findings())
    yield from _guarded("disks", disk.findings(data_dir))
    for name, findings in leftovers.checks(about).items():
        yield from _guarded(name, findings)


def _guarded(name: str, findings: Iterable[CheckResult]) -> Iterator[CheckResult]:
    try:
        yield from findings
    except (EventStreamError, OSError) as error:
        yield CheckResult(name, "warning", f"could not be checked: {error}", "run it again")
