"""Answers that outlive the term in which they were asked for: none of them means anything any more."""

from esnode.raft.messages import AppendReply, HeartbeatReply, ReadIndex

from .solo import Solo


def test_a_match_from_an_earlier_leadership_commits_nothing() -> None:
    """The follower may have replaced what it confirmed then: another has led in between."""
    node = Solo([1, 1])
    node.lead()
    node.persist()
    last_index, term = node.core.log.last_index, node.core.term
    node.receive(2, AppendReply(term - 1, last_index))
    assert node.core.log.committed == 0
    node.receive(2, AppendReply(term, last_index))
    assert node.core.log.committed == last_index


def test_a_sign_of_life_from_an_earlier_leadership_frees_no_read() -> None:
    node = Solo([1])
    node.lead()
    node.persist()
    node.receive(2, AppendReply(node.core.term, node.core.log.last_index))
    node.step(ReadIndex(7))
    assert not node.receive(2, HeartbeatReply(node.core.term - 1, 1)).read_grants
    grants = node.receive(2, HeartbeatReply(node.core.term, 1)).read_grants
    assert [grant.token for grant in grants] == [7]


def test_what_a_follower_held_of_what_is_committed_is_known_after_the_leadership() -> None:
    """And no more of it: what was not committed may be replaced there."""
    node = Solo([1, 1], voters=5)
    node.lead()
    node.persist()
    last_index, term = node.core.log.last_index, node.core.term
    assert node.core.leadership is not None
    node.receive(2, AppendReply(term, last_index))
    assert node.core.leadership.held({}) == {2: 0, 3: 0, 4: 0, 5: 0}
    node.receive(3, AppendReply(term, last_index))
    node.receive(4, AppendReply(term, 1))
    held = {2: last_index, 3: last_index, 4: 1, 5: 0}
    assert node.core.leadership.held({}) == held
    assert node.core.leadership.held({5: 2, 4: 0}) == held | {5: 2}
    node.receive(2, HeartbeatReply(term + 1, 0))
    assert node.core.leadership is None
    assert node.core.held == held
