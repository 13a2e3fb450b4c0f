"""Messages, writes and states in a few words each, for the scenario files. Pure."""

from collections.abc import Iterable

from esnode.dedup.batch import split_keys
from esnode.raft.entry import Entry, EntryKind
from esnode.raft.messages import (
    AppendEntries,
    AppendReject,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    PeerMessage,
    Rejoin,
    RejoinReply,
    SoftState,
    TimeoutNow,
    VoteReply,
    VoteRequest,
    Write,
)

from .machine import name_of


def entry(item: Entry) -> str:
    """`7@2 a b`: index, term, events."""
    if item.kind is EntryKind.BATCH:
        return f"{item.index}@{item.term} " + " ".join(map(name_of, split_keys(item.keys)))
    return f"{item.index}@{item.term} {item.kind.name.lower()}"


def entries(items: Iterable[Entry]) -> str:
    return "[" + ", ".join(map(entry, items)) + "]"


def message(item: PeerMessage) -> str:
    match item:
        case VoteRequest():
            kind = "pre-vote" if item.pre else "vote"
            why = " (transfer)" if item.transfer else ""
            return f"{kind} in term {item.term}? log ends {item.last_index}@{item.last_term}{why}"
        case VoteReply():
            kind = "pre-vote" if item.pre else "vote"
            return f"{kind} {'granted' if item.granted else 'refused'} in term {item.term}"
        case AppendEntries():
            body = f"after {item.prev_index}@{item.prev_term} {entries(item.entries)}"
            return f"append in term {item.term}: {body}, commit {item.commit}"
        case AppendReply():
            return f"matches to {item.match_index} in term {item.term}"
        case AppendReject():
            hint = f"at most {item.hint_index}@{item.hint_term}"
            return f"no match at {item.rejected_index} in term {item.term}, {hint}"
        case Heartbeat():
            return f"heartbeat in term {item.term}, commit {item.commit}, round {item.probe}"
        case HeartbeatReply():
            return f"heartbeat answered in term {item.term}, round {item.probe}"
        case InstallSnapshot():
            return f"snapshot in term {item.term} up to {item.snapshot.index}@{item.snapshot.term}"
        case TimeoutNow():
            return f"timeout-now in term {item.term}"
        case Rejoin():
            return f"question {item.nonce}: forget what I said; where are you?"
        case RejoinReply():
            doubt = "" if item.sound else ", rejoining itself"
            where = f"in term {item.term}, log ends {item.last_index}@{item.last_term}"
            return f"answer {item.nonce}: forgotten; {where}{doubt}"


def write(item: Write) -> str:
    parts = [f"#{item.write_id}:"]
    if item.snapshot is not None:
        parts.append(f"snapshot {item.snapshot.index}@{item.snapshot.term}")
    if item.hard_state is not None:
        parts.append(f"term {item.hard_state.term} vote {item.hard_state.vote or '-'}")
    if item.entries:
        parts.append(entries(item.entries))
    if item.rejoined:
        parts.append("rejoined")
    return " ".join(parts)


def state(item: SoftState) -> str:
    rejoining = ", rejoining" if item.rejoining else ""
    return f"{item.role.value} in term {item.term}, leader {item.leader or '-'}{rejoining}"
