"""Chunks of keys so small that a simulated load fills many of them, and checkpoints that write them.

A chunk is a constant that several modules know; here all of them know another one. Only for a world: what is
stored with one length of a chunk cannot be read with another. Called by `world.py`.
"""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from esnode import apply, limits
from esnode.dedup import keychunk, keyruns, keysegment, keytable, keywindow
from esnode.storage import checkpoints
from esnode.wire import peers

PAGE_KEYS = 4
CHUNK_KEYS = 8
SEGMENT_CHUNKS = 3
CHECKPOINT_ENTRIES = 50
"""After so many entries a node writes a checkpoint, and removes what nobody needs."""


@contextmanager
def small_chunks() -> Iterator[None]:
    """While the block lasts, a chunk has `CHUNK_KEYS` keys, and checkpoints are frequent."""
    page_bytes, chunk_bytes = PAGE_KEYS * limits.KEY_BYTES, CHUNK_KEYS * limits.KEY_BYTES
    with ExitStack() as stack:
        for module in (keychunk, keysegment, keywindow):
            stack.enter_context(patch.object(module, "PAGE_BYTES", page_bytes))
        for module in (keyruns, keysegment, keytable, keywindow):
            stack.enter_context(patch.object(module, "CHUNK_KEYS", CHUNK_KEYS))
        for module in (apply, checkpoints, keywindow, peers):
            stack.enter_context(patch.object(module, "CHUNK_BYTES", chunk_bytes))
        stack.enter_context(patch.object(keytable, "SEGMENT_CHUNKS", SEGMENT_CHUNKS))
        stack.enter_context(patch.object(limits, "CHECKPOINT_ENTRIES", CHECKPOINT_ENTRIES))
        stack.enter_context(patch.object(keywindow, "_PAGE_KEYS", PAGE_KEYS))
        stack.enter_context(patch.object(keywindow, "_CHUNK_PAGES", CHUNK_KEYS // PAGE_KEYS))
        yield


def has_small_chunks(seed: int) -> bool:
    """Whether they are small in the world of `seed`: in most."""
    return random.Random(f"{seed}:chunks").random() < 0.75
