"""Bytes <-> frozen messages: `frames` finds where one ends, the others know what is inside."""

from esnode.wire.chunks import FetchKeys, Fragment, KeyChunk, SnapshotAssembler, SnapshotChunk, chunks
from esnode.wire.fragments import FragmentAssembler
from esnode.wire.frames import FrameReader, encode, encode_parts
from esnode.wire.layout import Codec
from esnode.wire.table import CODECS, Message

__all__ = [
    "CODECS",
    "Codec",
    "FetchKeys",
    "Fragment",
    "FragmentAssembler",
    "FrameReader",
    "KeyChunk",
    "Message",
    "SnapshotAssembler",
    "SnapshotChunk",
    "chunks",
    "encode",
    "encode_parts",
]
