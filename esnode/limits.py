"""Every bound of the node, in one place, related bounds asserted together.

Decides how large, how many and how long. Never reads configuration: what an operator may change
is in `config.py`, and is checked there against these. Called by everyone.
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- frames and batches -------------------------------------------------------------------------
MAX_FRAME_BYTES: Final = 8 * MIB
"""Largest frame body that is ever allocated; a longer header closes the connection."""
MAX_HELLO_BYTES: Final = 4 * KIB
"""Largest frame before the handshake is done: strangers hold little memory."""
MAX_SETTING_BYTES: Final = 256
"""What a `Hello` shows of one setting that all nodes must have alike."""
MAX_EVENT_BYTES: Final = 1 * MIB
"""Largest encoded event."""
MAX_BATCH_EVENTS: Final = 1024
MAX_BATCH_BYTES: Final = 4 * MIB
"""Largest payload of one batch, keys not counted."""
MAX_MERGED_BYTES: Final = 256 * KIB
"""Batches that wait together become one entry up to this payload, and `MAX_BATCH_EVENTS`."""
KEY_BYTES: Final = 16
"""Of a key: the 4 bytes of its source's token, then the 12 that tell one event from another."""
MAX_PARTITIONS: Final = 64
MAX_ADOPTED_KEYS: Final = 16_384
"""Keys of another partition's events in one entry: 256 KiB."""
SCANNED_CHUNKS: Final = 64
"""Chunks of keys that are looked through for one answer to whoever adopts some of them: 4 MiB."""
MAX_ID_BYTES: Final = 1024
"""Longest `id` or `source` of an event, in UTF-8."""
MAX_TERM: Final = 2**48
MAX_INDEX: Final = 2**56
MAX_CBOR_DEPTH: Final = 32

# --- replication --------------------------------------------------------------------------------
MAX_APPEND_BYTES: Final = 512 * KIB
"""Entries in one AppendEntries, unless the first alone is larger."""
SLOWEST_LINK_BYTES_PER_S: Final = 500_000 // 8
"""What must arrive of a frame that has begun, on average: behind a slower link a large one is never whole."""
FRAGMENT_BYTES: Final = 16 * KIB
"""The least that a peer is sent at once of a large frame: small frames pass between the fragments."""
MAX_BURST_BYTES: Final = 512 * KIB
"""The most that a peer is sent at once: while a link takes that quickly, no smaller frame is cut."""
FIRST_BURST_BYTES: Final = 64 * KIB
"""The same on a connection whose speed is not known yet."""
BURST_S: Final = 0.05
"""A burst that a connection takes longer to accept was too large."""
MAX_UNSENT_BYTES: Final = 64 * KIB
"""What the kernel holds for a peer that it has not sent: nothing can overtake that any more."""
SIGN_OF_LIFE_BYTES: Final = 4 * KIB
"""So much more of an unfinished message shows that its sender lives: a byte now and then does not."""
SIGN_OF_LIFE_S: Final = 0.05
"""The shortest time between two such signs."""
MAX_SIGN_GAP_S: Final = 0.3
"""The longest, on the slowest link; `config.py` holds the timeout of elections against it."""
MAX_INFLIGHT_APPENDS: Final = 256
MAX_INFLIGHT_BYTES: Final = 16 * MIB
MAX_CATCH_UP_BYTES: Final = 2 * MIB
"""What is read from disk for a follower waits while so much is on its way: more makes it no faster, only its
queues and everybody's latency longer."""
MAX_OUTBOX_BYTES: Final = 32 * MIB
"""What waits to be sent to one peer; full means drop and report Unreachable."""
MAX_UNAPPLIED_BYTES: Final = 64 * MIB
"""Entries that a leader holds in memory until its own disk and a majority have them."""
MAX_CACHED_TAIL_BYTES: Final = 16 * MIB
"""Entries kept in memory behind the applied index, for followers and subscribers."""
MAX_FETCH_BYTES: Final = 1 * MIB
"""Entries read from disk at once: several messages, since each such question waits for a commit to end."""
CHECKPOINT_ENTRIES: Final = 32_768
"""Entries applied since the last checkpoint, after which another one is due: a start replays as many."""
CHECKPOINT_BYTES: Final = 128 * MIB
"""The same in bytes of the log, for large entries."""
CHECKPOINT_CHECK_S: Final = 1.0
WINDOW_CHECK_S: Final = 1.0
"""How often a node looks whether its deduplication window is full."""
CHECKPOINT_PIECE_CHUNKS: Final = 16
"""Chunks of keys written at once: 1 MiB."""
CHECKPOINT_PAUSE_S: Final = 1 / 32
"""Between two pieces, so that the log's own syncs find the disk free: 32 MiB/s at most."""
FILES_CHECK_S: Final = 1.0
"""How often a node looks whether its files are still those that it opened."""
SCRUB_PAGE_BYTES: Final = 256 * KIB
"""What is read at once of the part of the log that a start did not read."""
SCRUB_PAUSE_S: Final = 1 / 64
"""Between two pages: 16 MiB/s at most."""
SNAPSHOT_CHUNK_BYTES: Final = 1 * MIB
MAX_SNAPSHOT_BYTES: Final = 4096 * MIB
FETCHED_CHUNKS: Final = 32
"""Chunks of keys that one request names: 2 MiB, in memory until they are on disk."""
KEYS_SILENCE_S: Final = 10.0
"""A peer that was asked for chunks of keys and sends none for so long is asked for no more of them."""

KEY_BYTES_ON_DISK: Final = 24
"""What a remembered key takes on disk: the key itself, and its place in a sorted index."""
MIN_DEDUP_BYTES: Final = 1024 * KEY_BYTES_ON_DISK
MAX_DEDUP_BYTES: Final = 250_000_000 * KEY_BYTES_ON_DISK
"""The largest window that may be configured: a snapshot holds its keys."""
MAX_DEDUP_TTL_MS: Final = 2**42
"""139 years."""
MAX_NODE_ID: Final = 2**32 - 1

# --- inboxes and sessions -----------------------------------------------------------------------
MAX_INBOX_ITEMS: Final = 8192
MAX_STEPS_A_ROUND: Final = 256
"""Inputs that the driver steps before it looks at what follows from them."""
MAX_OFFERED_A_ROUND: Final = 64
"""Clients' requests among them: a round of more would keep followers' replies waiting."""
MAX_SESSION_INFLIGHT: Final = 1024
"""Requests of one client connection that wait for an answer; one more is answered Busy."""
MAX_SESSION_INFLIGHT_BYTES: Final = 32 * MIB
MAX_SESSION_READS: Final = 4
"""Reads of one client that are served at the same time."""
MAX_SESSION_OUTGOING_BYTES: Final = 4 * MIB
"""Replies that may wait for a client to read them before its next read is served."""
MAX_ADMIN_JOBS: Final = 16
"""Cuts and checkpoints that operators have asked for and that wait their turn, of all clients together."""
MAX_SNAPSHOTS_GIVEN: Final = 2
"""Clients that are given the snapshot at the same time: it is in memory once for each."""
MAX_CLIENT_CONNECTIONS: Final = 1024
"""After their handshake, of all sources together."""
MAX_CONNECTIONS_OF_A_SOURCE: Final = 768
"""One address, or one /64 of IPv6: others find a place."""
LOCAL_CONNECTIONS: Final = 64
"""The last places are for connections over loopback: the machine's operator can still look."""
MAX_CLIENT_HANDSHAKES: Final = 256
MAX_PEER_HANDSHAKES: Final = 64
"""Connections that have not said who they are; one more displaces the oldest of the busiest source."""
MAX_SOURCES: Final = 4096
"""Of which it is remembered what they have opened."""
SMALL_FRAME_BYTES: Final = 64 * KIB
"""A frame up to this never waits for memory."""
MAX_UNFINISHED_BYTES: Final = 64 * MIB
"""Larger frames that have begun and are not whole, of all clients."""
MAX_UNFINISHED_BYTES_OF_A_SOURCE: Final = 32 * MIB
MAX_WAITING_FRAMES: Final = 256
"""Frames that wait for a part of that; of each, what came with its head is held."""
MAX_ANSWER_BYTES: Final = 128 * MIB
"""Answers that clients have not taken, of all sessions."""
SMALL_ANSWERS_BYTES: Final = 64 * KIB
"""A session with no more than this waiting is answered whatever the others hold, but for pages of the log."""
MAX_REQUEST_BYTES: Final = 256 * MIB
"""Appends under way of all sessions; one more is answered Busy."""
MAX_DESCRIPTORS: Final = 4096
MAX_PENDING_READS: Final = 1024
MAX_READ_BYTES: Final = 1 * MIB
MAX_PRODUCER_RANGES: Final = 256
"""Batches of one producer session whose offsets are remembered."""
MAX_PRODUCERS: Final = 65536
MAX_NAMED_PRODUCERS: Final = 32_768
"""Sessions with a name, among them: those without one are closed first to make room."""
MAX_PRODUCER_NAME_BYTES: Final = 255
NAMED_PRODUCER_KEPT_MS: Final = 7 * 24 * 3_600_000
"""A named session that was used within so much log time is never closed: a new name is refused instead."""
MAX_UNUSED_PRODUCERS: Final = 8192
"""Sessions that nothing was appended in: with more of them the oldest makes room, not one that is in use."""
PRODUCERS_OPENED_AT_ONCE: Final = 1024
PRODUCERS_OPENED_PER_S: Final = 16.0
"""Sessions that one source may open on a leader: at once, and then each second."""
MAX_REMEMBERED_RANGES: Final = 131_072
"""In all sessions together, shared out when they are many: each then remembers fewer batches."""

MAX_REFUSALS_REMEMBERED: Final = 64
"""Different refusals of peers that the log tells once each; then it begins anew: strangers fill nothing."""

MAX_FAULTS: Final = 64
"""Faults that are active on a node at the same time."""
MAX_FAULT_ID_BYTES: Final = 64

# --- time ---------------------------------------------------------------------------------------
TICK_MS: Final = 20
FINE_TICK_MS: Final = 1
"""The tick while nobody leads, or the leader is about to be given up."""
QUIET_TICK_MS: Final = 160
"""The wait for one while a leader is heard and nothing was written or applied for `QUIET_AFTER_MS`."""
QUIET_AFTER_MS: Final = 500
MAX_TICK_MS: Final = 100
"""The most that one tick may move a timer or log time: a paused process wakes up modest."""
MAX_QUIET_TICK_MS: Final = QUIET_TICK_MS + MAX_TICK_MS - TICK_MS
"""The same for the ticks that a quiet node takes at once: they may be late by as much as others."""
STALL_S: Final = 0.5
"""A node whose event loop did nothing for longer was paused, or the machine was: its log says so."""
HANDSHAKE_TIMEOUT_S: Final = 5.0
FRAME_TIMEOUT_S: Final = 10.0
"""A frame that has begun must be whole within this, and the time that its bytes take on the slowest link."""
MAX_TIMER_MS: Final = 86_400_000
"""The longest timer that may be configured: a day."""
DISK_SILENCE_S: Final = 5.0
"""A disk that makes nothing durable for this long has failed."""
SLOW_DISK_MS: Final = 300
"""A leader whose own disk has been behind the commit for this long hands over: no ack leaves without it."""
SLOW_DISK_MEMORY_MS: Final = 10_000
"""For so long a disk that was slow counts against its node: it is handed nothing, and stands late."""
YOUNG_LEADERSHIP_MS: Final = 3_000
"""So long a leader does not hand over for its disk: two with slow disks would do nothing else."""
STALLED_READER_S: Final = 10.0
"""A client that takes nothing for so long is ended when others need the memory of its answers."""
REFUSALS_LOGGED_S: Final = 1.0
KEEPALIVE_S: Final = 30
"""A client that is silent for this long is asked by the kernel whether it is still there."""
OPERATION_TIMEOUT_S: Final = 5.0
"""A node asks the others, and a link asks its node, for so long."""
CLIENT_TIMEOUT_S: Final = 10.0
"""The library tries an operation for so long: a failed disk may be silent, and an election follows."""
LOG_END_TOLD_S: Final = 10.0
"""A node tells its clients this often where the log ends, more often where `dedup.ttl_ms` is short."""
MIN_LOG_END_TOLD_S: Final = 0.1
"""But no more often than this."""
SUBSCRIPTION_SIGN_OF_LIFE_S: Final = 1.0
"""A subscription that has nothing to say sends empty `Records` this often."""
TRANSFER_TIMEOUT_S: Final = 2.0
LEADER_FIT_S: Final = 2.0
"""A node is handed the leadership of a partition that it is to lead once it has been fit for so long."""
LEADER_FIT_AGAIN_S: Final = 6.0
"""At most so long after it has lost it soon, each time twice as long."""
LEADER_DECLINED_S: Final = 300.0
"""At most so long where the same process did not take it, or gave it back by itself."""
LEADER_LASTS_S: Final = 60.0
"""A leader that is replaced earlier than this has lost the leadership soon."""
LEADER_AWAY_S: Final = 10.0
"""A node that was not fit for so long leaves its partitions to the others, as long as it is not."""
LEADER_KEPT_S: Final = 600.0
"""So long an operator's choice of a leader stands, whichever node is to lead otherwise."""
LEADER_LOOK_S: Final = 0.5
"""A leader that another node is to replace looks for that one so often."""
TRANSFER_RETRY_S: Final = 0.1
STOP_TIMEOUT_S: Final = 2.0
HASTY_ELECTION_STEP_MS: Final = 5
"""Survivors of a leader whose connection closed start this far apart, by rank, as after a split vote."""
HASTY_RETRY_MS: Final = 25
"""The shortest pause before pre-votes are asked for again. So long an asker that should stand refuses
another, and a voter that has granted one a rival's."""
GIVE_WAY_MS: Final = 100
"""What a node that grants a pre-vote leaves the asker for its election before it stands itself."""
MAX_HASTY_ELECTIONS: Final = 10
PEER_SILENCE_MS: Final = 2_000
"""A connection to a peer whose bytes are not confirmed for this long is ended by the kernel."""
PEER_DIAL_S: Final = 1.0
"""A dial that began inside a partition must not outlast it by much."""
MIN_FAULT_LEASE_MS: Final = 100
MAX_FAULT_LEASE_MS: Final = 600_000
"""A fault that nobody renews is over after ten minutes at most."""
MAX_FAULT_DELAY_MS: Final = 10_000
MAX_FAULT_JUMP_MS: Final = 366 * 24 * 3_600_000
"""How far a wall clock may be set forward or back on purpose."""
PEER_DISKS_WINDOW_S: Final = 3.0
"""How long a node that has found damage waits to hear of the disks of all others; they call every second."""
PEER_DISKS_PAUSE_S: Final = 0.2
"""Between two tries to tell one that is not there."""
RECONNECT_MIN_S: Final = 0.02
RECONNECT_MAX_S: Final = 1.0

assert MAX_EVENT_BYTES < MAX_BATCH_BYTES
assert SLOW_DISK_MS < YOUNG_LEADERSHIP_MS < SLOW_DISK_MEMORY_MS
assert LEADER_FIT_S < LEADER_FIT_AGAIN_S < LEADER_AWAY_S < LEADER_LASTS_S
assert CLIENT_TIMEOUT_S > DISK_SILENCE_S + YOUNG_LEADERSHIP_MS / 1000
assert 1000 * DISK_SILENCE_S > YOUNG_LEADERSHIP_MS + SLOW_DISK_MS
assert MAX_MERGED_BYTES <= MAX_BATCH_BYTES
assert MAX_BATCH_BYTES + MAX_BATCH_EVENTS * (KEY_BYTES + 16) < MAX_FRAME_BYTES
assert 2 * MAX_APPEND_BYTES + MAX_BATCH_BYTES < MAX_FRAME_BYTES
assert FRAGMENT_BYTES / SLOWEST_LINK_BYTES_PER_S < MAX_SIGN_GAP_S
assert SIGN_OF_LIFE_S + SIGN_OF_LIFE_BYTES / SLOWEST_LINK_BYTES_PER_S < MAX_SIGN_GAP_S
assert SIGN_OF_LIFE_BYTES < FRAGMENT_BYTES <= FIRST_BURST_BYTES <= MAX_BURST_BYTES
assert MAX_APPEND_BYTES <= MAX_BURST_BYTES
assert (MAX_UNSENT_BYTES + FIRST_BURST_BYTES) / SLOWEST_LINK_BYTES_PER_S < OPERATION_TIMEOUT_S
assert MAX_INFLIGHT_BYTES + MAX_FRAME_BYTES <= MAX_OUTBOX_BYTES
assert MAX_FETCH_BYTES < MAX_CATCH_UP_BYTES <= MAX_INFLIGHT_BYTES
assert MAX_BATCH_BYTES < MAX_SESSION_INFLIGHT_BYTES
assert 2 * (MAX_CLIENT_CONNECTIONS + MAX_CLIENT_HANDSHAKES + MAX_PEER_HANDSHAKES) < MAX_DESCRIPTORS
assert MAX_CONNECTIONS_OF_A_SOURCE + 2 * LOCAL_CONNECTIONS < MAX_CLIENT_CONNECTIONS
assert SMALL_FRAME_BYTES < MAX_FRAME_BYTES <= MAX_UNFINISHED_BYTES_OF_A_SOURCE <= MAX_UNFINISHED_BYTES // 2
assert MAX_CLIENT_CONNECTIONS * SMALL_FRAME_BYTES <= MAX_UNFINISHED_BYTES
assert MAX_HELLO_BYTES * (MAX_CLIENT_HANDSHAKES + MAX_PEER_HANDSHAKES) <= 2 * MIB
assert MAX_CLIENT_CONNECTIONS * SMALL_ANSWERS_BYTES < MAX_ANSWER_BYTES
assert MAX_SESSION_READS * MAX_READ_BYTES + MAX_SESSION_OUTGOING_BYTES < MAX_ANSWER_BYTES // 8
assert MAX_UNAPPLIED_BYTES + MAX_SESSION_INFLIGHT_BYTES < MAX_REQUEST_BYTES
assert MAX_PRODUCERS / PRODUCERS_OPENED_PER_S > 3600
assert MAX_INFLIGHT_BYTES <= MAX_UNAPPLIED_BYTES
assert MAX_NAMED_PRODUCERS + MAX_UNUSED_PRODUCERS < MAX_PRODUCERS <= MAX_REMEMBERED_RANGES
assert TICK_MS <= MAX_TICK_MS
assert MAX_OFFERED_A_ROUND < MAX_STEPS_A_ROUND
assert SNAPSHOT_CHUNK_BYTES < MAX_FRAME_BYTES
assert MAX_DEDUP_BYTES // KEY_BYTES_ON_DISK * KEY_BYTES < MAX_SNAPSHOT_BYTES - 128 * MIB
