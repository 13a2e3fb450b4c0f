"""The settings that must be the same on all nodes of a cluster, and the message when two nodes differ.

Decides which these are: the members, since a majority of one list need not be one of another, `[dedup]`,
since otherwise the duplicates would depend on the leader, and the number of partitions, since it decides who
owns a source. The first two have one canonical text each, and a digest of it.
Timers, limits of the log, engines and addresses may differ. Called by `replication.py`, `peerdisks.py` and
the status.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from esnode import limits
from esnode.config import Config
from esnode.errors import DedupDiffers, MembersDiffer, ProtocolError
from esnode.messages import PROTOCOL_VERSION, Hello, Side
from esnode.raft.messages import NodeId

DIGEST_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its digest, and its value for people, at most `limits.MAX_SETTING_BYTES` long."""

    digest: bytes
    text: str


class SharedSettings:
    """What one node is set to."""

    def __init__(self, config: Config) -> None:
        ids = sorted(member.id for member in config.members)
        dedup = config.dedup
        self._cluster = config.cluster
        self._me = config.node_id
        self._partition = config.partition
        members = ", ".join(map(str, ids))
        self.members = _setting("members", members, members)
        # Compared is how many keys fit, as before there was `max_bytes`: nodes of both versions agree.
        keys = f'ttl_ms = {dedup.ttl_ms}, max_keys = {dedup.max_keys}, when_full = "{dedup.when_full}"'
        self.dedup = _setting("dedup", keys, str(dedup))

    def hello(self, peer: NodeId, incarnation: int) -> Hello:
        """What this node opens a connection to a peer with, but for its data directory and its log's end."""
        return Hello(
            side=Side.PEER,
            min_version=PROTOCOL_VERSION,
            max_version=PROTOCOL_VERSION,
            cluster=self._cluster,
            node_id=self._me,
            wanted_id=peer,
            incarnation=incarnation,
            members=self.members.digest,
            members_text=self.members.text,
            dedup=self.dedup.digest,
            dedup_text=self.dedup.text,
            partition=self._partition,
        )

    def check(self, hello: Hello) -> None:
        """That a peer is set alike.

        Raises `MembersDiffer`, `DedupDiffers`, each with both values.
        """
        if not hello.members or not hello.dedup:
            raise ProtocolError("a node must say which members and which [dedup] it is set to")
        if hello.members != self.members.digest:
            raise MembersDiffer(
                f"node {self._me} has the members {self.members.text},"
                f" node {hello.node_id} the members {hello.members_text}"
            )
        if hello.dedup != self.dedup.digest:
            raise DedupDiffers(
                f"[dedup] of node {self._me} is {self.dedup.text}, that of node {hello.node_id}"
                f" {hello.dedup_text}"
            )


def _setting(name: str, compared: str, text: str) -> Setting:
    digest = hashlib.blake2b(f"{name}: {compared}".encode(), digest_size=DIGEST_BYTES).digest()
    if len(text) > limits.MAX_SETTING_BYTES:
        text = f"{text[: limits.MAX_SETTING_BYTES - 40]}... ({text.count(',') + 1} in all)"
    return Setting(digest, text)
