"""The configuration of one node: a TOML file, read once, checked as a whole.

Decides what may be configured, its units and defaults. Never opens a socket or a database. An
unknown key, a missing one or a wrong type is an `InvalidConfig` that names it. Called by
`__main__` and by the backends that write such files.
"""

import dataclasses
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import tomli

from esnode import limits
from esnode.dataclass import dataclass
from esnode.errors import InvalidConfig


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address; written `host:port`."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Member:
    """One node of the cluster, as every node's file lists it: where peers and clients reach it."""

    id: int
    peer: Address
    client: Address


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A cluster that this one was restored from: its events before `end_offset` are ours too."""

    cluster: str
    end_offset: int


@dataclass(frozen=True, slots=True)
class Raft:
    """The timers. A follower suspects the leader after `election_ms` plus up to `jitter_ms`."""

    heartbeat_ms: int = 150
    election_ms: int = 450
    jitter_ms: int = 150


assert Raft().election_ms > 1000 * limits.MAX_SIGN_GAP_S, "a slow link would take the leadership away"


@dataclass(frozen=True, slots=True)
class Dedup:
    """The deduplication window: keys are known for `ttl_ms` of log time, as many as fit `max_bytes` on disk.

    With `ttl_ms` 0 no key expires: only the bound ends what is known. When the bound is reached first:
    `shrink` forgets the oldest keys early, `refuse` refuses appends (`WindowFull`). Both are seen in
    status and log.
    """

    ttl_ms: int = 600_000
    max_bytes: int = 100_000_000 * limits.KEY_BYTES_ON_DISK
    when_full: str = "shrink"

    @classmethod
    def of_keys(cls, max_keys: int, ttl_ms: int = 600_000, when_full: str = "shrink") -> "Dedup":
        """The window that is bounded by a number of keys, as `max_keys` of older files has it."""
        return cls(ttl_ms, max_keys * limits.KEY_BYTES_ON_DISK, when_full)

    @property
    def max_keys(self) -> int:
        """How many keys fit: what decides, the same on all nodes."""
        return self.max_bytes // limits.KEY_BYTES_ON_DISK

    def __str__(self) -> str:
        return f'ttl_ms = {self.ttl_ms}, max_bytes = {self.max_bytes}, when_full = "{self.when_full}"'


@dataclass(frozen=True, slots=True)
class Ingest:
    """What a leader asks of appends. `verify_keys`: that each key is the one of its event.

    A client that sends the key of somebody else's event makes that a duplicate, which is then never
    stored. To look, the node decodes every event.
    """

    verify_keys: bool = False


@dataclass(frozen=True, slots=True)
class Retention:
    """How much log is kept; 0 means no bound. `age_ms` is in log time."""

    bytes: int = 0
    age_ms: int = 0
    check_every_ms: int = 10_000


@dataclass(frozen=True, slots=True)
class Faults:
    """Whether an operator may break the node on purpose (`esctl fault`). Never in production."""

    allowed: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """One node's whole configuration."""

    cluster: str
    node_id: int
    data_dir: Path
    members: tuple[Member, ...]
    storage: str = "sqlite"
    log_level: str = "info"
    raft: Raft = field(default_factory=Raft)
    dedup: Dedup = field(default_factory=Dedup)
    ingest: Ingest = field(default_factory=Ingest)
    retention: Retention = field(default_factory=Retention)
    faults: Faults = field(default_factory=Faults)
    ancestors: tuple[Ancestor, ...] = ()
    """The oldest first."""
    partitions: int = 1
    """Among how many processes a node shares its work out; with 1 there is no supervisor."""
    leaders: str = "spread"
    """`spread`: the leadership of each partition goes to the node that is to lead it, so that all nodes lead;
    `free`: it stays with whichever node was elected. Means nothing with one partition."""
    partition: int = 0
    """Which of them this process is: never in a file, see `of_partition`."""

    @property
    def epoch(self) -> int:
        """1 for a cluster that was never restored, and one more for each time."""
        return 1 + len(self.ancestors)

    @property
    def me(self) -> Member:
        """This node's own line in `members`."""
        return next(member for member in self.members if member.id == self.node_id)

    @property
    def peers(self) -> tuple[Member, ...]:
        """The other nodes."""
        return tuple(member for member in self.members if member.id != self.node_id)

    def of_partition(self, partition: int) -> "Config":
        """What the process of one of several partitions runs with: a directory of its own."""
        directory = partition_directory(self.data_dir, partition)
        return dataclasses.replace(self, partition=partition, data_dir=directory)


def partition_directory(data_dir: Path, partition: int) -> Path:
    """Where the log of one of several partitions is."""
    return data_dir / f"partition-{partition}"


STORAGE_ENGINES = ("sqlite", "segments", "rocksdb", "memory")
LogLevel = Literal["debug", "info", "warning", "error", "critical"]
LOG_LEVELS: tuple[str, ...] = get_args(LogLevel)
"""From the least to the gravest: what a line of a log may have, and the least that a node writes."""
LEADERS = ("spread", "free")
WHEN_FULL = ("shrink", "refuse")


def parse_address(text: str) -> Address:
    """`host:port` -> `Address`; raises `InvalidConfig`."""
    name, _, port = text.rpartition(":")
    host = name.strip("[]")
    is_number = port.isascii() and port.isdigit() and len(port) < 6
    if not _can_be_looked_up(host) or not is_number or not 0 < int(port) < 65536:
        raise InvalidConfig(f"{text!r:.300} is not an address of the form host:port")
    return Address(host, int(port))


def _can_be_looked_up(host: str) -> bool:
    """Whether a resolver would take the name; one that it refuses outright is no network error."""
    try:
        encoded = host.encode("idna")
    except UnicodeError:
        return False
    return bool(encoded) and all(32 < byte < 127 for byte in encoded)


def load(path: Path) -> Config:
    """Read and check a configuration file; raises `InvalidConfig`."""
    try:
        document = tomli.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidConfig(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, endless digits or brackets
        raise InvalidConfig(f"{path} is not TOML: {error}") from error
    try:
        return _config(document, path.parent)
    except InvalidConfig as error:
        raise InvalidConfig(f"{path}: {error}") from error


def dump(config: Config) -> str:
    """The TOML text that `load` reads back as `config`."""
    lines = [
        f"cluster = {_quote(config.cluster)}",
        f"node_id = {config.node_id}",
        f"data_dir = {_quote(str(config.data_dir))}",
        f"storage = {_quote(config.storage)}",
        f"log_level = {_quote(config.log_level)}",
    ]
    if config.partitions != 1:  # versions from before there was the key read all other files
        lines.append(f"partitions = {config.partitions}")
    if config.leaders != LEADERS[0]:
        lines.append(f"leaders = {_quote(config.leaders)}")
    for name in (name for name, _ in _SECTIONS):
        lines += ["", f"[{name}]"]
        section = getattr(config, name)
        for entry in dataclasses.fields(section):
            value = getattr(section, entry.name)
            lines.append(f"{entry.name} = {_value(value)}")
    for member in config.members:
        lines += ["", "[[members]]", f"id = {member.id}"]
        lines += [f"peer = {_quote(str(member.peer))}", f"client = {_quote(str(member.client))}"]
    for ancestor in config.ancestors:
        lines += ["", "[[ancestors]]", f"cluster = {_quote(ancestor.cluster)}"]
        lines += [f"end_offset = {ancestor.end_offset}"]
    return "\n".join(lines) + "\n"


def _config(document: dict[str, Any], base: Path) -> Config:
    fields = _checked(document, Config, "")
    members = tuple(_member(item, n) for n, item in enumerate(fields.pop("members"), start=1))
    ancestors = tuple(_ancestor(item, n) for n, item in enumerate(fields.pop("ancestors", ()), start=1))
    if "dedup" in fields:
        fields["dedup"] = _with_max_bytes(fields["dedup"])
    for name, section in _SECTIONS:
        if name in fields:
            fields[name] = section(**_checked(fields[name], section, f"{name}."))
    data_dir = base / _path(fields.pop("data_dir"))
    config = Config(members=members, data_dir=data_dir, ancestors=ancestors, **fields)
    _check_sense(config)
    return config


def _with_max_bytes(dedup: dict[str, Any]) -> dict[str, Any]:
    """The table `[dedup]` of a file; `max_keys` in it is the older form of `max_bytes`."""
    if "max_keys" not in dedup:
        return dedup
    if "max_bytes" in dedup:
        raise InvalidConfig("dedup.max_keys is the older form of dedup.max_bytes: give only max_bytes")
    rest = dict(dedup)
    max_keys = rest.pop("max_keys")
    if type(max_keys) is not int:
        raise InvalidConfig("dedup.max_keys must be of type int; max_bytes has taken its place")
    least, most = (size // limits.KEY_BYTES_ON_DISK for size in _DEDUP_BYTES)
    if not least <= max_keys <= most:
        raise InvalidConfig(
            f"dedup.max_keys must be from {least} to {most}; max_bytes has taken its place"
            f" ({limits.KEY_BYTES_ON_DISK} bytes a key)"
        )
    return {**rest, "max_bytes": max_keys * limits.KEY_BYTES_ON_DISK}


def _path(text: str) -> Path:
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:  # `~name` of nobody here
        raise InvalidConfig(f"data_dir is not a path: {error}") from error
    if "\0" in text:
        raise InvalidConfig("data_dir is not a path: it holds a zero byte")
    return path


def _member(item: object, number: int) -> Member:
    where = f"members[{number}]"
    if not isinstance(item, dict):
        raise InvalidConfig(f"{where} is not a table")
    fields = _checked(item, Member, f"{where}.")
    return Member(fields["id"], parse_address(fields["peer"]), parse_address(fields["client"]))


def _ancestor(item: object, number: int) -> Ancestor:
    where = f"ancestors[{number}]"
    if not isinstance(item, dict):
        raise InvalidConfig(f"{where} is not a table")
    return Ancestor(**_checked(item, Ancestor, f"{where}."))


_DEDUP_BYTES = (limits.MIN_DEDUP_BYTES, limits.MAX_DEDUP_BYTES)
_SECTIONS: tuple[tuple[str, type[Any]], ...] = (
    ("raft", Raft),
    ("dedup", Dedup),
    ("ingest", Ingest),
    ("retention", Retention),
    ("faults", Faults),
)
_TOML_TYPES: dict[Any, type] = {Path: str, Address: str, **dict.fromkeys((cls for _, cls in _SECTIONS), dict)}


def _checked(table: dict[str, Any], cls: type[Any], where: str) -> dict[str, Any]:
    """The values of `table`, after a look at their names and types against the dataclass `cls`."""
    hints = get_type_hints(cls)
    if cls is Config:
        del hints["partition"]
    for key in table:
        if key not in hints:
            known = ", ".join(sorted(hints))
            raise InvalidConfig(f"unknown key {where}{key!s}; known here: {known}")
    for entry in dataclasses.fields(cls):
        if entry.name not in hints:
            continue
        hint = hints[entry.name]
        wanted = list if get_args(hint) else _TOML_TYPES.get(hint, hint)
        required = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if entry.name not in table:
            if required:
                raise InvalidConfig(f"{where}{entry.name} is missing")
        elif type(table[entry.name]) is not wanted:
            raise InvalidConfig(f"{where}{entry.name} must be of type {wanted.__name__}")
    return dict(table)


def _check_sense(config: Config) -> None:
    ids = [member.id for member in config.members]
    if len(ids) % 2 == 0:
        raise InvalidConfig(f"members lists {len(ids)} nodes; the number of nodes must be odd")
    if len(set(ids)) != len(ids) or min(ids) < 1 or max(ids) > limits.MAX_NODE_ID:
        raise InvalidConfig(f"each member needs its own id, from 1 to {limits.MAX_NODE_ID}")
    if config.node_id not in ids:
        raise InvalidConfig(f"node_id {config.node_id} is not among the members {ids}")
    addresses = [address for member in config.members for address in (member.peer, member.client)]
    if len(set(addresses)) != len(addresses):
        raise InvalidConfig("two members share an address")
    if not config.cluster or len(config.cluster.encode()) > 255:
        raise InvalidConfig("cluster must be a name of 1 to 255 bytes")
    for ancestor in config.ancestors:
        if ancestor.cluster in ("", config.cluster) or not 0 <= ancestor.end_offset <= limits.MAX_INDEX:
            raise InvalidConfig("each of ancestors is another cluster, with an end_offset of its log")
    if not 1 <= config.partitions <= limits.MAX_PARTITIONS:
        raise InvalidConfig(f"partitions must be from 1 to {limits.MAX_PARTITIONS}")
    _check_choice("storage", config.storage, STORAGE_ENGINES)
    _check_choice("leaders", config.leaders, LEADERS)
    _check_choice("log_level", config.log_level, LOG_LEVELS)
    _check_choice("dedup.when_full", config.dedup.when_full, WHEN_FULL)
    if not 0 < config.raft.heartbeat_ms < config.raft.election_ms:
        raise InvalidConfig("raft.heartbeat_ms must be positive and less than raft.election_ms")
    if config.raft.jitter_ms < 1:
        raise InvalidConfig("raft.jitter_ms must be at least 1, or elections collide")
    _check_window(config.dedup)
    if min(config.retention.bytes, config.retention.age_ms) < 0:
        raise InvalidConfig("retention.bytes and retention.age_ms cannot be negative")
    if config.retention.check_every_ms < 10:
        raise InvalidConfig("retention.check_every_ms must be at least 10")
    _check_most("raft.election_ms", config.raft.election_ms, limits.MAX_TIMER_MS)
    _check_most("raft.jitter_ms", config.raft.jitter_ms, limits.MAX_TIMER_MS)
    _check_most("retention.check_every_ms", config.retention.check_every_ms, limits.MAX_TIMER_MS)
    _check_most("retention.age_ms", config.retention.age_ms, limits.MAX_DEDUP_TTL_MS)
    _check_most("retention.bytes", config.retention.bytes, 2**63 - 1)


def _check_window(dedup: Dedup) -> None:
    if not 0 <= dedup.ttl_ms <= limits.MAX_DEDUP_TTL_MS:
        raise InvalidConfig(f"dedup.ttl_ms must be from 0 to {limits.MAX_DEDUP_TTL_MS}; 0: no key expires")
    least, most = _DEDUP_BYTES
    if not least <= dedup.max_bytes <= most:
        raise InvalidConfig(
            f"dedup.max_bytes must be from {least} to {most}; a key takes {limits.KEY_BYTES_ON_DISK} bytes"
        )
    if not dedup.ttl_ms and dedup.when_full == "refuse":
        raise InvalidConfig(
            'dedup.when_full = "refuse" needs a dedup.ttl_ms over 0: without, no key ever makes room again'
        )


def _check_most(name: str, value: int, most: int) -> None:
    if value > most:
        raise InvalidConfig(f"{name} cannot be over {most}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidConfig(f"{name} is {value!r}; it must be one of {', '.join(choices)}")


def _value(value: str | int | bool) -> str:
    """As TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _quote(value) if isinstance(value, str) else str(value)


def _quote(text: str) -> str:
    """A TOML basic string."""
    escaped = "".join(
        f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c
        for c in text.replace("\\", "\\\\").replace('"', '\\"')
    )
    return f'"{escaped}"'
