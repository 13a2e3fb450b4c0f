"""`esctl bundle`: everything that explains a cluster in one archive, without secrets and events.

`--dry-run` shows what would be in it, and what is left out; nothing is sent anywhere.
"""

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypedDict

import typer

from esctl.cli import auditlog, filesuffix
from esctl.cli.arguments import DryRun
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.commands.status import health, table
from esctl.commands.version import versions
from esctl.errors import InvalidArgument, MachineRefused
from esctl.ui.answer import Answer, Fields, Line, Table, Tone, Value, View
from esctl.ui.values import Count, FilePath

if TYPE_CHECKING:
    from esctl.clusters.state import Cluster
    from esctl.observe.support.archive import Part, PartData
    from esctl.observe.support.redaction import Redaction

app = new_typer()
MIB: Final = 1 << 20


class BundleData(TypedDict):
    """What is in the archive, and what is not."""

    file: FilePath
    files: "list[PartData]"
    left_out: list[str]
    taken_out: dict[str, Count]


class PlannedBundleAnswer(BundleData):
    """The archive that would be written."""

    dry_run: Literal[True]


class BundleAnswer(BundleData):
    """The archive that was written."""

    bytes: Count


@command(app, "bundle", partitions=True)
def bundle(
    run: Invocation,
    into: Annotated[
        Path, typer.Option("--save", metavar="FILE", help="Archive to write, such as help.tar.gz")
    ],
    log_mib: Annotated[
        int,
        typer.Option(
            "--log-mib", metavar="MIB", min=1, max=64, help="Size of the end of each log to include, in MiB"
        ),
    ] = 2,
    dry_run: DryRun = False,
) -> Answer[PlannedBundleAnswer | BundleAnswer]:
    """Collect logs, statuses, findings, configurations and the audit log into an archive; without events
    or secrets"""
    from esctl.observe.support import archive  # loaded late: it brings tarfile
    from esctl.observe.support.redaction import Redaction

    filesuffix.form_of(into, {".tar.gz": "an archive", ".tgz": "an archive"})
    cluster = run.cluster()
    if into.exists() and not dry_run:
        raise InvalidArgument(
            f"{into} exists already; nothing was done", next_step="name another file: --save FILE"
        )
    redaction = Redaction()
    with run.terminal.progress(f"looking at {cluster.name}"):
        parts = archive.collect(cluster, _facts(run, cluster), redaction, log_mib * MIB)
    parts.append(archive.manifest(cluster, parts, redaction))
    if dry_run:
        return _answer(into, parts, redaction, size_bytes=None)
    name = f"{cluster.name}-{auditlog.now()[:19].replace(':', '')}"
    try:
        size_bytes = archive.write(into, name, parts)
    except OSError as error:
        raise MachineRefused(f"{into} cannot be written: {error.strerror}") from error
    return _answer(into, parts, redaction, size_bytes=size_bytes)


def _facts(run: Invocation, cluster: "Cluster") -> dict[str, Any]:
    """What is true now, by the name of its file."""
    from esctl.commands.status import ringtable  # loaded late: it brings trio and the client
    from esctl.observe.host.examination import examine
    from esctl.query import checkup

    looked = run.trio(lambda: checkup.examine(cluster))
    of_several = None if looked.ring is None else ringtable.answer_of(looked.ring)
    statuses = [
        {str(report.node.id): report.status or {"why": report.why} for report in survey.reports}
        for survey in looked.surveys
    ]
    return {
        "about": {"versions": versions(), "system": platform.platform(), "made": auditlog.now()},
        "status": dict((of_several or table.answer_of(looked.survey)).data),
        "health": dict(health.answer_of(looked).data),
        "nodes": statuses[0] if looked.ring is None else {"partitions": statuses},
        "doctor": [finding.as_data() for finding in examine()],
    }


def _answer(
    into: Path, parts: "list[Part]", redaction: "Redaction", *, size_bytes: int | None
) -> Answer[PlannedBundleAnswer | BundleAnswer]:
    from esctl.observe.support.archive import LEFT_OUT

    data: BundleData = {
        "file": str(into),
        "files": [part.as_data() for part in parts],
        "left_out": list(LEFT_OUT),
        "taken_out": {kind: count for kind, count in redaction.taken.items() if count},
    }
    rows: list[list[Value]] = [
        [
            part.name,
            len(part.content),
            f"without the {part.cut_bytes:,} bytes before" if part.cut_bytes else "",
        ]
        for part in parts
    ]
    views: list[View] = [Table(["file", "bytes", ""], rows)]
    taken = ", ".join(f"{count} {kind}" for kind, count in data["taken_out"].items()) or "nothing"
    views.append(Fields([("left out", what) for what in LEFT_OUT] + [("taken out", taken)]))
    if size_bytes is None:
        planned: PlannedBundleAnswer = {**data, "dry_run": True}
        would = Line(f"would write {into}; look at what is in it, then leave out --dry-run")
        return Answer(planned, [*views, would])
    written: BundleAnswer = {**data, "bytes": size_bytes}
    done = Line(f"{into} has {size_bytes:,} bytes; look into it before you send it", Tone.GOOD)
    return Answer(written, [*views, done])
