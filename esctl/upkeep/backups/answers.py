"""What `esctl backup` answers under `-o json`: the types of its data. Imported by nothing at run time."""

from typing import Annotated, Literal, NotRequired, TypedDict

from esctl.ui.values import Address, ClusterName, Count, FilePath, NodeId, Seconds, Verdict


class BackupData(TypedDict):
    """A file, and the log that is in it."""

    file: FilePath
    size_bytes: Count
    cluster: ClusterName
    identity: str
    source_epoch: int
    created: str
    from_node: NodeId
    online: bool
    events: Count
    first_offset: Count
    next_offset: Count
    known_offset: Count
    first_index: Count
    last_index: Count
    last_term: Count
    entries_beyond_commit: Count
    log_time_ms: Count
    content_hash: str
    sha256: str
    chunks: Count


class BackupPart(TypedDict):
    """One partition of a backup."""

    id: Count
    events: Count
    from_node: NodeId
    first_offset: Count
    next_offset: Count
    content_hash: str
    sha256: str


class RingBackupData(TypedDict):
    """A directory, and the logs of all partitions that are in it."""

    file: FilePath
    size_bytes: Count
    cluster: ClusterName
    identity: str
    source_epoch: int
    created: str
    events: Count
    partitions: list[BackupPart]


class CheckedRingBackupAnswer(RingBackupData):
    """A backup of several partitions that is whole."""

    verdict: Literal["passed", "inconclusive"]


class PlannedRingRestoreAnswer(RingBackupData):
    """The cluster with several partitions that would be made of a backup."""

    name: ClusterName
    dry_run: Literal[True]
    epoch: int


class RingRestoreAnswer(RingBackupData):
    """The cluster with several partitions that was made of a backup; `identity` is its own."""

    name: ClusterName
    epoch: int
    leaders: Annotated[list[NodeId], "Of each partition"]
    addresses: list[Address]
    data_dir: FilePath


class WholeRingBackupRow(RingBackupData):
    """A backup of several partitions that can be read."""

    whole: Literal[True]
    why: None


class PlannedBackupAnswer(TypedDict):
    """Where the backup would be."""

    cluster: ClusterName
    dry_run: Literal[True]
    file: FilePath


class CheckedBackupAnswer(BackupData):
    """A backup that is whole."""

    verdict: Literal["passed", "inconclusive"]


class PlannedRestoreAnswer(BackupData):
    """The cluster that would be made of a backup."""

    name: ClusterName
    dry_run: Literal[True]
    epoch: int


class RestoreAnswer(BackupData):
    """The cluster that was made of a backup; `identity` is its own."""

    name: ClusterName
    epoch: int
    leader: NodeId
    addresses: list[Address]
    data_dir: FilePath


class DrillCopyData(TypedDict):
    """What one node of either cluster has."""

    cluster: str
    node: NodeId
    hash: str | None
    why: str | None
    partition: NotRequired[Count]


class DrilledPartitionData(TypedDict):
    """What was compared of one of several partitions."""

    id: Count
    common_offset: Count
    events: Count
    content_hash: str


class BackupDrillAnswer(TypedDict):
    """How a restored cluster compares with the one that goes on."""

    cluster: ClusterName
    verdict: Verdict
    common_offset: Annotated[Count | None, "null where several partitions have several"]
    events: Count
    content_hash: Annotated[str | None, "null where several partitions have several"]
    sent_again: Count
    known_again: Count
    seconds: dict[str, Seconds]
    wrong: list[str]
    doubts: list[str]
    copies: list[DrillCopyData]
    left_behind: list[FilePath]
    partitions: NotRequired[list[DrilledPartitionData]]


class WholeBackupRow(BackupData):
    """A backup that can be read."""

    whole: Literal[True]
    why: None


class DamagedBackupRow(TypedDict):
    """A file that is called a backup, and why it is none."""

    file: FilePath
    size_bytes: Count
    whole: Literal[False]
    why: str


class BackupsAnswer(TypedDict):
    """The backups in a directory."""

    backups: list[WholeBackupRow | WholeRingBackupRow | DamagedBackupRow]


class PruneAnswer(TypedDict):
    """The backups that were removed, or would be."""

    removed: list[FilePath]
    kept: Count
    dry_run: NotRequired[bool]
