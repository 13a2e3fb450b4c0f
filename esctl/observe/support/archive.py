"""The support archive: which files are in it, how much of each, and what is left out on purpose.

Reads descriptions, configurations, the ends of logs and of the audit log; never a data directory, so no
event and no key. Everything passes through `redaction.py`. Called by `esctl bundle`.
"""

import dataclasses
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypedDict

from esctl.cli import auditlog
from esctl.clusters.state import Cluster
from esctl.observe.support.redaction import Redaction
from esctl.ui.values import Count
from esnode import config
from esnode.errors import EventStreamError

LOG_TAIL_BYTES: Final = 2 << 20
AUDIT_TAIL_LINES: Final = 1_000
LEFT_OUT: Final = (
    "the data directories: no event, no key, no snapshot",
    "environment variables",
    "the output of commands, and whatever esctl does not know of",
)


class PartData(TypedDict):
    """One file of the archive."""

    name: str
    bytes: Count
    cut_bytes: Count
    sha256: Annotated[str, ("pattern", "^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the archive."""

    name: str
    content: bytes
    cut_bytes: int = 0
    """So much of it was left out at its beginning."""

    def as_data(self) -> PartData:
        """For the manifest and the JSON answer."""
        digest = hashlib.sha256(self.content).hexdigest()
        return {"name": self.name, "bytes": len(self.content), "cut_bytes": self.cut_bytes, "sha256": digest}


def collect(
    cluster: Cluster, facts: Mapping[str, Any], redaction: Redaction, log_bytes: int = LOG_TAIL_BYTES
) -> list[Part]:
    """Every file but the manifest. `facts` are documents to put in, by name: versions, statuses, findings."""
    parts = [_document(f"{name}.json", fact, redaction) for name, fact in facts.items()]
    described = json.loads(json.dumps(dataclasses.asdict(cluster), default=str))
    parts.append(_document("cluster.json", described, redaction))
    for node in cluster.nodes:
        parts.append(_configuration(f"node-{node.id}/config.json", node.config, redaction))
        tail, cut = tail_of(node.log, log_bytes)
        lines = "".join(redaction.line(line) + "\n" for line in tail.splitlines())
        parts.append(Part(f"node-{node.id}/log.jsonl", lines.encode(), cut))
    audit_lines = list(auditlog.AuditLog(cluster.name).lines())
    kept = audit_lines[-AUDIT_TAIL_LINES:]
    cut = sum(len(line) + 1 for line in audit_lines[: -len(kept)] if kept)
    parts.append(Part("audit.jsonl", b"".join(line + b"\n" for line in kept), cut))
    return parts


def manifest(cluster: Cluster, parts: Sequence[Part], redaction: Redaction) -> Part:
    """What is in the archive and what is not."""
    document = {
        "schema": "esctl-bundle/v1",
        "cluster": cluster.name,
        "made": auditlog.now(),
        "files": [part.as_data() for part in parts],
        "left_out": list(LEFT_OUT),
        "taken_out": dict(redaction.taken),
    }
    return Part("manifest.json", _json(document))


def write(path: Path, name: str, parts: Sequence[Part]) -> int:
    """Write the archive, whole or not at all, for its owner's eyes; its size. Raises `OSError`.

    A file of that name is an error, not replaced.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for part in parts:
            entry = tarfile.TarInfo(f"{name}/{part.name}")
            entry.size, entry.mode = len(part.content), 0o600
            entry.mtime = int(datetime.now(UTC).timestamp())
            archive.addfile(entry, io.BytesIO(part.content))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(buffer.getvalue())
    return len(buffer.getvalue())


def tail_of(path: Path, limit_bytes: int) -> tuple[str, int]:
    """The last whole lines that fit, and how many bytes were before them; nothing without a file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            begin = max(0, size - limit_bytes)
            file.seek(begin)
            content = file.read(limit_bytes)
    except FileNotFoundError:
        return "", 0
    if begin:
        whole = content.partition(b"\n")[2]
        begin, content = begin + len(content) - len(whole), whole
    return content.decode(errors="replace"), begin


def _configuration(name: str, path: Path, redaction: Redaction) -> Part:
    try:
        settings: Any = dataclasses.asdict(config.load(path))
    except EventStreamError as error:
        settings = {"unreadable": str(error)}
    return _document(name, json.loads(json.dumps(settings, default=str)), redaction)


def _document(name: str, document: Any, redaction: Redaction) -> Part:
    return Part(name, _json(redaction.value(document)))


def _json(document: Any) -> bytes:
    return (json.dumps(document, indent=2, default=str) + "\n").encode()
