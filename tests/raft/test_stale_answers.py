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
