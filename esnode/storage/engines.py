"""The choice of a storage engine by its name in the configuration.

Opens, and decides nothing else. An engine's package is imported only when it is chosen; the engine
`memory` has no directory (`place`). Called by `place` and by tests.
"""

from pathlib import Path

from esnode.errors import EngineMissing, InvalidConfig
from esnode.storage.interface import Identity, Storage
from esnode.storage.segments import SegmentStorage
from esnode.storage.sqlite import SqliteStorage
from esnode.storage.versioncheck import refuse_newer_directory


def open_storage(engine: str, data_dir: Path, identity: Identity) -> Storage:
    """Open `data_dir`, creating it when there is none.

    Raises `WrongDirectory` when it is another node's or cluster's, another engine's or of an older format,
    `MembersChanged`, `NewerFormat`, `CopiedDirectory` (nothing is changed then), `DirectoryInUse`,
    `EngineMissing`, `DamagedRecord`, and `StorageFailed` when the file system refuses.
    """
    refuse_newer_directory(engine, data_dir)
    if engine == "sqlite":
        return SqliteStorage(data_dir, identity)
    if engine == "segments":
        return SegmentStorage(data_dir, identity)
    if engine != "rocksdb":
        raise InvalidConfig(f"there is no storage engine {engine!r}")
    try:
        from esnode.storage.rocksdb import RocksdbStorage
    except ImportError as error:
        raise EngineMissing("the storage engine rocksdb needs the package rocksdict") from error
    return RocksdbStorage(data_dir, identity)
