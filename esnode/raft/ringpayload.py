"""What an entry of the log says of the ring, as the bytes of its payload. `docs/protocol.md` shows them.

Checks that a payload says what there can be; whether it may follow is decided in `esnode/dedup/ownership.py`.
Called by `entry.py`.
"""

import struct
from typing import Final

from esnode import limits
from esnode.dedup.ownership import Adoption, RingChange, RingPlan, RingSwitch
from esnode.errors import DamagedRecord
from esnode.ring import FIRST_VERSION

# version | old partitions | partitions | ended
_PLAN: Final = struct.Struct(">IHH?")
# version | partitions
_SWITCH: Final = struct.Struct(">IH")
# version | old owner | first_offset | end_offset | floor
_ADOPTION: Final = struct.Struct(">IHQQQ")


def pack(change: RingChange) -> bytes:
    """The payload."""
    if isinstance(change, RingPlan):
        return _PLAN.pack(change.version, change.old_partitions, change.partitions, change.ended)
    if isinstance(change, RingSwitch):
        return _SWITCH.pack(change.version, change.partitions)
    return _ADOPTION.pack(
        change.version, change.old_owner, change.first_offset, change.end_offset, change.floor
    )


def unpack(kind: type[RingChange], payload: bytes) -> RingChange:
    """What a payload of this kind says; raises `DamagedRecord`."""
    layout = _LAYOUTS[kind]
    if len(payload) != layout.size:
        raise DamagedRecord(f"a {kind.__name__} of {len(payload)} bytes has a wrong size")
    change: RingChange = kind(*layout.unpack(payload))
    if isinstance(change, Adoption):
        can_be = change.old_owner < limits.MAX_PARTITIONS and change.first_offset <= change.end_offset
        can_be = can_be and max(change.end_offset, change.floor) <= limits.MAX_INDEX
    else:
        can_be = 0 < change.partitions <= limits.MAX_PARTITIONS
        if isinstance(change, RingPlan):
            can_be = can_be and 0 < change.old_partitions <= limits.MAX_PARTITIONS
    if not can_be or change.version <= FIRST_VERSION:
        raise DamagedRecord(f"there can be no {change}")
    return change


_LAYOUTS: Final = {RingPlan: _PLAN, RingSwitch: _SWITCH, Adoption: _ADOPTION}
