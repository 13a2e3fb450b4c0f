"""etcd's key-value calls: each event under its own key, one put an event or one transaction a batch.

The messages are those of etcd's `rpc.proto`: PutRequest(key = 1, value = 2), RequestOp(request_put = 2),
TxnRequest(success = 2). Sending a put again changes nothing, so that is its deduplication. Bytes only.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import cbor2

from bench.peers.client import Acked, Answer, NotNow
from bench.peers.grpc_wire import Calls
from esnode.dedup.batch import Batch
from esnode.limits import KEY_BYTES

PUT: Final = "/etcdserverpb.KV/Put"
TXN: Final = "/etcdserverpb.KV/Txn"
MAX_TXN_OPS: Final = 128
"""etcd's own default, `--max-txn-ops`."""


def varint(value: int) -> bytes:
    """A length in protobuf."""
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def nested(number: int, body: bytes) -> bytes:
    """A field of bytes or of a message."""
    return bytes([number << 3 | 2]) + varint(len(body)) + body


def puts(batch: Batch) -> list[bytes]:
    """A PutRequest for each event."""
    events = cbor2.loads(batch.payload)
    starts = range(0, len(batch.keys), KEY_BYTES)
    key_head = nested(1, bytes(KEY_BYTES))[:2]
    return [
        b"%b%b\x12%b%b" % (key_head, batch.keys[at : at + KEY_BYTES], varint(len(event)), event)
        for at, event in zip(starts, events, strict=True)
    ]


class EtcdDialect:
    """See `client.Dialect`."""

    capacity = 1 << 30
    ready = True

    def __init__(self, authority: str, *, transactions: bool) -> None:
        self._transactions = transactions
        self._calls = Calls(TXN if transactions else PUT, authority)
        self._under_way: dict[int, tuple[int, int]] = {}
        """By call: the number of the sending, and how many events the call carries."""

    def put(self, number: int, batch: Batch) -> None:
        """One call an event, or one for all of them."""
        if self._transactions:
            assert batch.count <= MAX_TXN_OPS
            body = b"".join(nested(2, nested(2, put)) for put in puts(batch))
            self._under_way[self._calls.call(body)] = (number, batch.count)
        else:
            for put in puts(batch):
                self._under_way[self._calls.call(put)] = (number, 1)

    def feed(self, data: bytes) -> Sequence[Answer]:
        """The calls that ended; what failed is sent again: too many requests, no leader, leader changed."""
        acked: Counter[int] = Counter()
        failed: list[Answer] = []
        for reply in self._calls.feed(data):
            number, events = self._under_way.pop(reply.call)
            if reply.message is None:
                failed.append(NotNow(number))
            else:
                acked[number] += events
        return [*(Acked(number, events) for number, events in acked.items()), *failed]

    def take(self) -> bytes:
        """As much as the server's window lets out."""
        return self._calls.take()
