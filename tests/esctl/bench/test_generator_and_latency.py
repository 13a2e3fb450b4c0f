"""What a measurement stands on: events that are real and unique, and latencies that hide nothing."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esctl.bench.generator import Generator
from esctl.bench.latency import Percentiles, Recorder, new_histogram, percentiles_of
from esctl.errors import InvalidArgument
from esnode import limits
from esnode.dedup.batch import split_keys
from esnode.events import decode_events, encode_event, make_batch

RUN = "0123456789abcdef"


@given(st.integers(110, 3000), st.integers(1, 300))
def test_generated_batches_are_those_that_the_client_would_make(size: int, batch: int) -> None:
    generator = Generator(RUN, size, batch)
    for first in (0, batch):
        made = generator.next_batch()
        events = decode_events(made.payload)
        assert make_batch(events) == made
        assert [event["id"] for event in events] == [generator.id_of(n) for n in range(first, first + batch)]
        assert {len(encode_event(event)) for event in events} == {size}
    assert generator.made == 2 * batch


def test_no_key_comes_twice_within_a_run_or_in_another_one() -> None:
    keys = set[bytes]()
    for run in (RUN, RUN[::-1]):
        generator = Generator(run, 128, 64)
        for _ in range(50):
            keys.update(split_keys(generator.next_batch().keys))
    assert len(keys) == 2 * 50 * 64


def test_a_size_that_no_event_has_is_refused_with_the_smallest() -> None:
    with pytest.raises(InvalidArgument) as caught:
        Generator(RUN, 20, 64)
    smallest = int(caught.value.next_step.removeprefix("--size "))
    Generator(RUN, smallest, 64)
    with pytest.raises(InvalidArgument):
        Generator(RUN, smallest - 1, 64)


def test_a_batch_over_the_limit_is_refused_with_the_largest() -> None:
    with pytest.raises(InvalidArgument) as caught:
        Generator(RUN, 100_000, 1024)
    largest = int(caught.value.next_step.removeprefix("--batch "))
    assert len(Generator(RUN, 100_000, largest).next_batch().payload) <= limits.MAX_BATCH_BYTES


def test_a_pause_of_the_log_is_seen_from_the_intended_time_and_hidden_from_the_sending() -> None:
    recorder = Recorder(interval_s=0.001)
    # One event a millisecond for ten seconds; in the first second nothing could be sent.
    for n in range(10_000):
        intended = n * 0.001
        sent = max(intended, 1.0)
        recorder.record(intended, sent, sent + 0.002, 1)
    raw = recorder.percentiles(0, 10, intended=False)
    assert dataclasses.astuple(raw) == pytest.approx((2.0,) * 4, rel=0.002)
    corrected = recorder.percentiles(0, 10, intended=True)
    assert corrected.p50 == pytest.approx(2.0, rel=0.002)
    assert corrected.p99 == pytest.approx(902, rel=0.01)
    assert corrected.max == pytest.approx(1002, rel=0.01)


def test_each_event_of_a_batch_counts_from_its_own_time() -> None:
    recorder = Recorder(interval_s=0.001)
    recorder.record(intended_s=5.0, sent_s=5.099, acked_s=5.100, count=100)
    found = recorder.percentiles(0, 10, intended=True)
    assert found.p50 == pytest.approx(50.5, rel=0.02)
    assert found.max == pytest.approx(100, rel=0.01)


def test_only_what_falls_into_the_measured_time_counts() -> None:
    recorder = Recorder(interval_s=0.0)
    for n in range(10):
        recorder.record(float(n), float(n), n + 0.5 + n / 100, 64)
    assert recorder.acked_between(2.0, 5.0) == 3 * 64
    assert recorder.percentiles(2.0, 5.0, intended=False).max == pytest.approx(540, rel=0.01)
    assert recorder.percentiles(20, 30, intended=False) == Percentiles(None, None, None, None)
    assert Percentiles(1.0, 2.0, 3.0, 4.0).as_data() == {"p50": 1.0, "p99": 2.0, "p999": 3.0, "max": 4.0}


def test_a_curve_has_a_point_a_second_and_a_short_rest_belongs_to_the_last() -> None:
    recorder = Recorder(interval_s=0.0)
    for n in range(34):  # ten batches of 64 a second, for 3.4 s
        recorder.record(n / 10, n / 10, n / 10 + 0.001 * (n % 10), 64)
    assert recorder.throughput_series(0.0, 3.4) == [(0.0, 640.0), (1.0, 640.0), (2.0, pytest.approx(640.0))]
    assert recorder.throughput_series(0.0, 3.6)[-1] == (3.0, pytest.approx(4 * 64 / 0.6, abs=0.1))
    assert recorder.throughput_series(0.0, 1.0, 0.5) == [(0.0, 640.0), (0.5, 640.0)]
    latencies = recorder.latency_series(0.0, 2.0, 99, intended=True)
    assert latencies == [(0.0, pytest.approx(9.0)), (1.0, pytest.approx(9.0))]


def test_a_second_without_events_has_no_latency_and_no_throughput() -> None:
    recorder = Recorder(interval_s=0.001)
    recorder.record(0.5, 0.5, 0.51, 1)
    recorder.record(2.5, 2.5, 2.51, 1)
    assert [x for x, _ in recorder.latency_series(0.0, 3.0, 99, intended=True)] == [0.0, 2.0]
    assert [y for _, y in recorder.throughput_series(0.0, 3.0)] == [1.0, 0.0, 1.0]


def test_histograms_of_intervals_add_up_to_that_of_the_whole() -> None:
    whole, sum_of_parts = Recorder(0.001), new_histogram()
    for part in range(3):
        recorder = Recorder(0.001)
        for n in range(100):
            begun = part + n / 100
            for one in (whole, recorder):
                one.record(begun, begun, begun + 0.001 * (n + part), 1)
        sum_of_parts.add(recorder.histogram(intended=True))
    assert percentiles_of(sum_of_parts) == whole.percentiles(-1, 10, intended=True)


def test_other_ends_than_the_acks_make_other_latencies_and_leave_out_what_never_ended() -> None:
    recorder = Recorder(interval_s=0.0)
    for n in range(4):
        recorder.record(float(n), float(n), n + 0.1, 10, last_offset=10 * n + 9)
    ends = recorder.last_offsets / 10 + 0.2  # each a second later than its number says
    ends[3] = float("nan")
    other = recorder.ended_at(ends)
    assert (recorder.events, other.events) == (40, 30)
    assert other.percentiles(0, 10, intended=True).max == pytest.approx(1100, rel=0.01)
    assert list(other.last_offsets) == [9, 19, 29]
