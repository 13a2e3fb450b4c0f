"""The library for applications and operators. `connect` opens the log of a cluster, `connect_node`
asks one node. Errors are those of `esnode/errors.py`."""

from esnode.client.acks import Ack, BatchAck
from esnode.client.log import Log, connect
from esnode.client.merged import MergedBatches, MergedEvents
from esnode.client.nodelink import NodeLink, Page, connect_node
from esnode.client.partitionlog import KeyState
from esnode.client.producer import ProducerState
from esnode.client.stored import StoredBatch, StoredEvent
from esnode.client.subscription import BatchSubscription, Subscription

__all__ = [
    "Ack",
    "BatchAck",
    "BatchSubscription",
    "KeyState",
    "Log",
    "MergedBatches",
    "MergedEvents",
    "NodeLink",
    "Page",
    "ProducerState",
    "StoredBatch",
    "StoredEvent",
    "Subscription",
    "connect",
    "connect_node",
]
