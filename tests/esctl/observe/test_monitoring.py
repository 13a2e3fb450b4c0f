"""What monitors are told: states of single figures, a plugin's line, and Prometheus text."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from esctl.cli.invocation import Invocation, SharedOptions
from esctl.clusters.backends.interface import RunState
from esctl.commands.status import metrics
from esctl.exits import Exit
from esctl.observe.diagnosis import collect
from esctl.observe.diagnosis.collect import gather
from esctl.observe.diagnosis.ranking import diagnose
from esctl.observe.diagnosis.situation import Disk, Situation, StruckProcess
from esctl.observe.monitoring import exposition, nagios
from esctl.observe.monitoring.probes import NAMES, PROBES, Probe, ProbeState, read, read_all, state_of, worst
from esctl.query import checkup
from esnode.errors import NoQuorum
from esnode.server import appendlatency
from esnode.server.appendlatency import AppendLatency
from tests.esctl.commands.test_commands import Run
from tests.esctl.query.test_ringsurvey import ring
from tests.esctl.situations import HEARD_MS, fault, gone, look, node, seen
from tests.esctl.wire_node import serving, three

PROBE = {probe.name: probe for probe in PROBES}
BEHIND = seen(node(1, next_offset=50_008))


def filled(live_keys: int) -> dict[str, Any]:
    return {"live_keys": live_keys, "max_keys": 1000, "ttl_ms": 600_000, "when_full": "shrink"}


def state_of_probe(name: str, situation: Situation) -> ProbeState:
    return read(PROBE[name], situation).state


@pytest.mark.parametrize(
    ("name", "situation", "wanted"),
    [
        ("quorum", seen(), ProbeState.OK),
        ("quorum", seen(gone(3)), ProbeState.WARNING),
        ("quorum", seen(gone(2), gone(3), read_ms=None), ProbeState.CRITICAL),
        ("leader", seen(), ProbeState.OK),
        ("leader", seen(read_ms=700.0), ProbeState.WARNING),
        ("leader", seen(read_ms=None, read_error=NoQuorum("nobody")), ProbeState.CRITICAL),
        ("lag", seen(), ProbeState.OK),
        ("lag", BEHIND, ProbeState.WARNING),
        ("lag", seen(node(1, next_offset=150_000)), ProbeState.CRITICAL),
        ("lag", seen(node(1, role="follower")), ProbeState.UNKNOWN),
        ("disk", seen(), ProbeState.OK),
        ("disk", seen(disks={1: Disk(7, 100)}), ProbeState.WARNING),
        ("disk", seen(disks={1: Disk(4, 100)}), ProbeState.CRITICAL),
        ("disk", seen(disks={}), ProbeState.UNKNOWN),
        ("faults", seen(), ProbeState.OK),
        ("faults", seen(node(1, faults=[fault("cut-1")])), ProbeState.WARNING),
        ("faults", seen(gone(2), struck=[StruckProcess("kill-1", "kill", 2, 10)]), ProbeState.WARNING),
        ("faults", seen(gone(1), gone(2), gone(3)), ProbeState.UNKNOWN),
        ("window", seen(), ProbeState.OK),
        ("window", seen(node(3, dedup=filled(901))), ProbeState.WARNING),
        ("window", seen(node(3, dedup=filled(1000))), ProbeState.CRITICAL),
        ("window", seen(node(3, dedup=filled(1000) | {"ttl_ms": 0})), ProbeState.OK),
        ("window", seen(node(3, dedup=filled(1000) | {"ttl_ms": 0}, next_offset=950)), ProbeState.WARNING),
        ("window", seen(gone(1), gone(2), gone(3)), ProbeState.UNKNOWN),
        ("memory", seen(), ProbeState.OK),
        ("memory", seen(node(3, rss_bytes=600_000_000)), ProbeState.WARNING),
        ("memory", seen(gone(1), gone(2), gone(3)), ProbeState.UNKNOWN),
    ],
)
def test_a_figure_is_judged_by_its_thresholds(name: str, situation: Situation, wanted: ProbeState) -> None:
    assert state_of_probe(name, situation) is wanted


def test_a_threshold_itself_is_still_well() -> None:
    rising, falling = PROBE["lag"], PROBE["disk"]
    assert [state_of(rising, value) for value in (10_000, 10_001, 100_001)] == [0, 1, 2]
    assert [state_of(falling, value) for value in (10, 9.9, 4.9)] == [0, 1, 2]


def test_the_worst_of_several_counts_and_unknown_is_less_than_bad() -> None:
    readings = [read(probe, seen(gone(1), gone(2), gone(3), read_ms=None)) for probe in PROBES]
    assert worst(readings) is ProbeState.CRITICAL
    unknown = [reading for reading in readings if reading.state in (ProbeState.UNKNOWN, ProbeState.OK)]
    assert worst(unknown) is ProbeState.UNKNOWN
    assert worst([]) is ProbeState.OK


def test_a_plugins_line_has_a_state_a_text_and_figures_with_their_bounds() -> None:
    assert nagios.line([read(PROBE["lag"], BEHIND)]) == (
        "WARNING - lag: node 2 is 50,000 events behind | lag=50000;10000;100000"
    )
    assert nagios.line([read(PROBE["disk"], seen())]).endswith("| disk=80%;10:;5:")
    everything = nagios.line([read(probe, seen(gone(3))) for probe in PROBES])
    assert everything.startswith("WARNING - quorum: 2 of 3 up")
    assert everything.count("\n") == 0
    assert everything.count("|") == 1
    assert {word.partition("=")[0] for word in everything.partition("| ")[2].split()} == set(NAMES)
    far = nagios.line([read(PROBE["lag"], seen(node(1, next_offset=12_345_678)))])
    assert re.search(r"lag=1234\d{4};", far), "no exponent"
    assert nagios.unknown("no | such\ncluster") == "UNKNOWN - no / such cluster"


LINE = re.compile(r'(?P<name>[a-z_]+)\{(?P<labels>(?:[a-z]+="[^"]*",?)+)\} (?P<value>-?[\d.e+-]+)')
APPENDS = "append_duration_seconds"


def scraped(*every: Situation) -> dict[str, dict[str, float]]:
    """By name and labels; every line is of the format, and each name is described once."""
    readings = [read_all(probe, every) for probe in PROBES]
    found: dict[str, dict[str, float]] = {}
    described: list[str] = []
    for line in exposition.exposition(every, readings):
        if line.startswith("# TYPE"):
            described.append(line.split()[2])
            assert line.split()[3] in ("gauge", "counter", "histogram")
            assert line.endswith("counter") is line.split()[2].endswith("_total")
        elif not line.startswith("# HELP"):
            match = LINE.fullmatch(line)
            assert match is not None, line
            assert match["name"].removesuffix("_bucket").removesuffix("_count") == described[-1]
            figures = found.setdefault(match["name"].removeprefix("eventstreamcore_"), {})
            assert match["labels"] not in figures
            figures[match["labels"]] = float(match["value"])
    assert len(described) == len(set(described))
    return found


def test_a_scrape_has_every_node_and_every_figure_once() -> None:
    scrape = scraped(seen(gone(3, RunState.PAUSED), node(2, faults=[fault("cut-1")])))
    by_node = [f'cluster="drill",node="{n}"' for n in (1, 2, 3)]
    assert [scrape["up"][labels] for labels in by_node] == [1, 1, 0]
    assert [scrape["process_running"][labels] for labels in by_node] == [1, 1, 0]
    assert [scrape["leader"][labels] for labels in by_node[:2]] == [1, 0]
    assert by_node[2] not in scrape["term"]
    assert scrape["faults_active"][by_node[1]] == 1
    assert scrape["quorum_spare"]['cluster="drill"'] == 0
    assert scrape["read_seconds"]['cluster="drill"'] == 0.0025
    assert scrape["peer_connected"]['cluster="drill",node="1",peer="2"'] == 1
    assert scrape["check_state"]['cluster="drill",probe="quorum"'] == 1
    assert scrape["wall_time_seconds"][by_node[0]] == HEARD_MS / 1000


def test_a_scrape_tells_of_a_window_what_the_node_tells() -> None:
    told = filled(7) | {
        "window_ms": 33_000,
        "bytes_on_disk": 1,
        "bytes_in_memory": 2,
        "full": True,
        "refused": 3,
    }
    scrape = scraped(seen(node(1, dedup=told), node(2, dedup=filled(7))))
    first, second = 'cluster="drill",node="1"', 'cluster="drill",node="2"'
    names = ("window_seconds", "disk_bytes", "memory_bytes", "full", "refused_total")
    assert [scrape[f"dedup_{name}"][first] for name in names] == [33, 1, 2, 1, 3]
    assert [second in scrape[f"dedup_{name}"] for name in names] == [False] * 5, "an older version"
    assert [scrape["dedup_max_keys"][each] for each in (first, second)] == [1000, 1000]


def buckets_of(scrape: dict[str, dict[str, float]], number: int) -> dict[float, float]:
    """The buckets of a node's histogram, by their bound, in the order of the scrape."""
    labels = re.compile(f'cluster="drill",node="{number}",le="([^"]+)"')
    found = [(labels.fullmatch(key), value) for key, value in scrape[f"{APPENDS}_bucket"].items()]
    return {float(match[1]): value for match, value in found if match is not None}


def test_the_time_to_an_ack_is_a_histogram_whose_buckets_are_cumulative_and_the_same_for_every_node() -> None:
    latency = AppendLatency()
    took_s = [0.00001, 0.0005, 0.0005, 0.003, 0.2, 1.9, 60.0]
    for seconds in took_s:
        latency.note(seconds)
    scrape = scraped(seen(node(1, append_us=latency.picture()), node(2, append_us=[])))
    leader, follower = buckets_of(scrape, 1), buckets_of(scrape, 2)
    for buckets, times in ((leader, took_s), (follower, [])):
        assert list(buckets) == sorted(buckets)
        assert list(buckets)[-1] == float("inf")
        assert list(buckets.values()) == [sum(one < bound for one in times) for bound in buckets]
    assert list(leader) == list(follower)
    counted = scrape[f"{APPENDS}_count"]
    assert [counted[f'cluster="drill",node="{n}"'] for n in (1, 2)] == [leader[float("inf")], 0] == [7, 0]
    assert f"{APPENDS}_sum" not in scrape, "a node does not tell it"
    assert not buckets_of(scrape, 3), "a node of a version that does not count has no histogram"


def partitions(*situations: Situation) -> list[Situation]:
    """The same as those of the partitions of one cluster."""
    surveys = ring(*(one.survey for one in situations)).partitions
    return [replace(one, looks=[survey]) for one, survey in zip(situations, surveys, strict=True)]


def test_of_several_partitions_the_worst_counts_and_is_named() -> None:
    well = partitions(seen(), seen())
    assert read_all(PROBE["quorum"], well) == read(PROBE["quorum"], well[0])
    lag = read_all(PROBE["lag"], partitions(seen(), BEHIND, seen(node(1, next_offset=9))))
    assert (lag.partition, lag.value, lag.state) == (1, 50_000, ProbeState.WARNING)
    assert lag.text == "partition 1: node 2 is 50,000 events behind"
    assert lag.as_data(several=True)["partition"] == 1
    assert "partition" not in lag.as_data()
    dead = read_all(PROBE["leader"], partitions(seen(read_ms=1.0), seen(read_ms=None), seen(read_ms=9.0)))
    assert (dead.partition, dead.value, dead.state) == (1, None, ProbeState.CRITICAL)


def test_a_fault_of_a_node_is_one_however_many_partitions_have_it_and_its_memory_is_that_of_all() -> None:
    struck = seen(node(2, faults=[fault("cut-1"), fault("cut-2.a")]))
    found = read_all(PROBE["faults"], partitions(struck, struck, seen(node(3, faults=[fault("slow-1")]))))
    assert (found.value, found.text) == (3, "cut-1, cut-2, slow-1")
    memory = read_all(PROBE["memory"], partitions(seen(node(1, rss_bytes=7)), seen()))
    assert (memory.partition, memory.value) == (None, 50.0)


def test_a_scrape_of_several_partitions_names_the_partition_of_each_figure_and_each_disk_once() -> None:
    scrape = scraped(*partitions(seen(), seen(node(1, role="follower"), node(2, role="leader"), gone(3))))
    assert scrape["leader"]['cluster="drill",partition="0",node="1"'] == 1
    assert scrape["leader"]['cluster="drill",partition="1",node="2"'] == 1
    assert scrape["up"]['cluster="drill",partition="1",node="3"'] == 0
    assert scrape["quorum_spare"] == {'cluster="drill",partition="0"': 1, 'cluster="drill",partition="1"': 0}
    assert scrape["nodes"] == {'cluster="drill"': 3}
    assert list(scrape["disk_free_bytes"]) == [f'cluster="drill",node="{n}"' for n in (1, 2, 3)]
    assert sum(scrape["ring_share"].values()) == pytest.approx(1)
    assert scrape["ring_partitions"] == {'cluster="drill"': 2}
    assert scrape["check_value"]['cluster="drill",probe="quorum"'] == 0


def test_the_bounds_of_the_histogram_are_bounds_that_nodes_count_by() -> None:
    bounds = {appendlatency._bound_us(step) for step in range(appendlatency.STEPS)}
    assert bounds.issuperset(exposition.APPEND_BOUNDS_US)
    assert list(exposition.APPEND_BOUNDS_US) == sorted(set(exposition.APPEND_BOUNDS_US))


def test_labels_cannot_break_out_of_their_quotes() -> None:
    rows = [({"cluster": 'a"b\\c\nd'}, 1.0)]
    assert list(exposition._family("up", "x", "gauge", rows))[-1] == (
        'eventstreamcore_up{cluster="a\\"b\\\\c\\nd"} 1'
    )


# --- the command --------------------------------------------------------------------------------


def thresholds(name: str, warn: float | None, crit: float | None) -> Probe:
    (probe,) = metrics._wanted(name, warn, crit)
    return probe


def test_a_threshold_given_alone_moves_the_other_out_of_its_way() -> None:
    assert thresholds("lag", 500_000, None).crit == 500_000
    assert thresholds("lag", None, 10).warn == 10
    assert thresholds("lag", 5, None) == replace(PROBE["lag"], warn=5)
    assert thresholds("disk", 2, None).crit == 2
    assert thresholds("disk", None, 50).warn == 50


@pytest.mark.parametrize(
    "words",
    [
        ["lag", "--warn", "10", "--crit", "5"],
        ["disk", "--warn", "5", "--crit", "10"],
        ["all", "--warn", "5"],
    ],
)
def test_thresholds_that_contradict_each_other_are_refused(words: list[str]) -> None:
    run = Run("status", "metrics", *words, "-o", "json")
    assert run.code == 2
    assert run.document["errors"][0]["code"] == "ES4009"


def test_for_nagios_a_check_that_cannot_be_made_is_unknown() -> None:
    run = Run("status", "metrics", "lag", "--format", "nagios", "--cluster", "nowhere")
    assert run.code == 3
    assert run.out.startswith("UNKNOWN - there is no cluster nowhere")


def answered(situation: Situation, name: str) -> Any:
    run = Invocation("status metrics", SharedOptions())
    probes = metrics._wanted(name, None, None)
    return metrics._answer(
        run, [situation], metrics._read(probes, [situation]), None, everything=name == "all"
    )


def test_the_answer_has_our_own_exit_codes_and_leads_to_why() -> None:
    assert answered(seen(), "all").exit_code is Exit.OK
    bad = answered(BEHIND, "lag")
    assert bad.exit_code is Exit.UNHEALTHY
    assert (bad.errors[0].code, bad.errors[0].next) == ("ES4025", "esctl why --cluster drill")
    assert bad.data["checks"][0]["state"] == "warning"
    silent = answered(seen(gone(1), gone(2), gone(3), read_ms=None), "all")
    assert silent.exit_code is Exit.UNREACHABLE


async def test_a_look_at_nodes_that_agree_finds_them_well_in_a_moment(tmp_path: Path) -> None:
    async with serving(three(), tmp_path) as cluster:
        situation = await gather(cluster)
    assert len(situation.looks) == 1
    assert situation.read_ms is not None
    assert diagnose(situation).findings[:1] == []


@pytest.mark.slow
async def test_a_follower_that_is_behind_is_looked_at_for_a_second(tmp_path: Path) -> None:
    nodes = three()
    nodes[1].claimed_next_offset = 3
    async with serving(nodes, tmp_path) as cluster:
        situation = await gather(cluster)
    assert len(situation.looks) == 2
    assert situation.apart_s >= 1.0
    assert [finding.kind for finding in diagnose(situation).findings] == ["lagging"]


@pytest.mark.parametrize(
    ("running", "again"),
    [({2: RunState.RUNNING}, True), ({2: RunState.DOWN}, False), ({2: RunState.PAUSED}, False)],
)
def test_a_node_that_runs_and_is_silent_is_asked_again(running: dict[int, RunState], again: bool) -> None:
    now = look(*(gone(number, state) for number, state in running.items()))
    assert collect._unclear(now) is again
    assert collect._unclear_since(look(), now) is again


async def test_health_is_watched_by_its_changes_only(tmp_path: Path) -> None:
    nodes = three()
    async with serving(nodes, tmp_path) as cluster:
        changes = checkup.changes(cluster, every_s=0.01)
        first = await anext(changes)
        assert [stage.ok for stage in first.stages[1:]] == [True, True, True]
        nodes[2].faults["cut-1"] = fault("cut-1")
        second = await anext(changes)
        assert not second.stages[1].ok
        nodes[2].faults["cut-1"] = fault("cut-1", left_ms=5_000)
        nodes[1].rejoining = True
        third = await anext(changes)
        assert len(third.stages[1].flaws) == 2
        await changes.aclose()
