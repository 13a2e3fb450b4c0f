"""`esctl bench soak`: intervals and slopes, a leak, a short run, a window that still fills."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from esctl.bench.endurance import Endurance
from esctl.bench.generator import Generator
from esctl.bench.runner import TrialPlan
from esctl.bench.usage import Usage
from esctl.commands.bench import soak
from esctl.exits import Exit
from esctl.ui.answer import Answer, Tone
from esctl.ui.terminal import Output, Terminal
from tests.esctl import conftest as clusters
from tests.esctl import contract
from tests.esctl.fake_log import RUN, Log, Nodes, Slow
from tests.esctl.results import MACHINE

RATE = 10.0


class Wearing(Log):
    """A log whose acks come later and later."""

    async def append_batch(self, *arguments: Any, **more: Any) -> Any:
        self.delay_s = 0.01 + (trio.current_time() - self.begun) * 0.0001
        return await super().append_batch(*arguments, **more)


class Soaking:
    """A soak of `minutes` on a fake log, looked at each ten seconds, and what was printed meanwhile."""

    def __init__(self, home: Path, minutes: float, output: Output = Output.PLAIN) -> None:
        plan = TrialPlan(seconds=minutes * 60, warmup_s=2, rate=RATE, batch=64, window=64)
        self.out, self.err = io.StringIO(), io.StringIO()
        terminal = Terminal(output, stdout=self.out, stderr=self.err)
        self.endurance = Endurance(Generator(RUN, 128, plan.events_a_batch), plan, 10.0, (1, 2, 3))
        self.soaked = soak.Soaked(
            clusters.plan("bench", home), self.endurance, MACHINE, home / "soak.json", terminal
        )

    async def answer(self, log: Log, nodes: Nodes) -> Answer[Any]:
        await self.endurance.run(log, nodes.look, lambda _load: None, self.soaked.looked)
        return self.answer_now()

    def answer_now(self) -> Answer[Any]:
        answer = soak.answer_of(self.endurance, self.soaked.result(), self.soaked.terminal.output)
        return contract.checked("bench soak", answer)


async def test_a_level_run_is_flat_and_steady(tmp_path: Path, autojump_clock: trio.abc.Clock) -> None:
    soaking = Soaking(tmp_path, minutes=5)
    answer = await soaking.answer(Log(), Nodes())
    assert answer.exit_code is Exit.OK
    assert answer.data["detail"]["memory_flat"] is True
    assert answer.data["detail"]["latency_steady"] is True
    figures = answer.data["figures"]
    assert figures["events_per_s"] == pytest.approx(RATE, rel=0.01)
    assert figures["acked"] == pytest.approx(300 * RATE, rel=0.01)
    assert figures["p50_ms"] == pytest.approx(10, rel=0.02)
    assert figures["node_1_mb_per_hour"] == pytest.approx(0, abs=0.01)
    assert figures["leader_cpu_us_per_event"] == pytest.approx(500_000 / RATE, rel=0.02)
    assert len(answer.data["series"]["p99_ms"]) == 30
    assert [x for x, _ in answer.data["series"]["node_2_rss_bytes"]][:2] == [10.0, 20.0]
    assert "memory is flat" in str(answer.views[-3])


async def test_a_row_is_printed_for_each_interval_and_the_file_written(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    soaking = Soaking(tmp_path, minutes=1)
    answer = await soaking.answer(Log(), Nodes())
    rows = [line.split("\t") for line in soaking.out.getvalue().splitlines()]
    assert [float(row[0]) for row in rows] == [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
    assert all(len(row) == 9 for row in rows)
    assert [int(cell) for cell in rows[0][6:]] == [100_000_001, 100_000_002, 100_000_003]
    saved = json.loads((tmp_path / "soak.json").read_text())
    assert saved["series"]["p99_ms"] == [list(point) for point in answer.data["series"]["p99_ms"]]
    assert len(saved["detail"]["intervals"]) == 6


async def test_a_leak_is_told_with_its_slope(tmp_path: Path, autojump_clock: trio.abc.Clock) -> None:
    answer = await Soaking(tmp_path, minutes=10).answer(Log(), Nodes(grows_mb_per_hour=60))
    assert answer.data["figures"]["node_1_mb_per_hour"] == pytest.approx(60, rel=0.02)
    assert answer.data["detail"]["memory_flat"] is False
    assert answer.exit_code is Exit.UNHEALTHY
    assert [trouble.code for trouble in answer.errors] == ["ES4306"]
    assert answer.errors[0].message == "memory grew after the first two minutes"


async def test_memory_that_grows_while_the_window_fills_is_no_leak_yet(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    nodes = Nodes(grows_mb_per_hour=60)
    nodes.keys_per_s = 100
    answer = await Soaking(tmp_path, minutes=10).answer(Log(), nodes)
    assert answer.exit_code is Exit.INCONCLUSIVE
    assert "window was filling" in answer.errors[0].message


async def test_latency_that_rises_minute_by_minute_is_a_drift(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    answer = await Soaking(tmp_path, minutes=10).answer(Wearing(), Nodes())
    assert answer.data["detail"]["latency_steady"] is False
    assert answer.data["figures"]["p50_ms_per_hour"] == pytest.approx(360, rel=0.05)
    assert answer.exit_code is Exit.UNHEALTHY
    assert "latency drifted" in answer.errors[0].message


async def test_a_run_of_two_minutes_is_too_short_to_tell(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    answer = await Soaking(tmp_path, minutes=2).answer(Log(), Nodes(grows_mb_per_hour=600))
    assert answer.data["detail"]["memory_flat"] is None
    assert answer.exit_code is Exit.INCONCLUSIVE
    assert "too short" in answer.errors[0].message
    assert answer.errors[0].next == "esctl bench soak --duration 2m50s, or more"
    assert "too short" in str(answer.views[-1])
    assert "--duration 2m50s" in str(answer.views[-1])


async def test_what_was_measured_until_ctrl_c_is_an_answer(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    soaking = Soaking(tmp_path, minutes=60, output=Output.TABLE)
    with trio.move_on_after(35):
        await soaking.answer(Log(), Nodes())
    answer = soaking.answer_now()
    assert len(answer.data["detail"]["intervals"]) == 3
    assert answer.data["figures"]["acked"] == pytest.approx(30 * RATE, rel=0.02)
    lines = soaking.out.getvalue().splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
    Terminal(Output.TABLE).show("bench soak", answer)


async def test_a_file_that_cannot_be_written_any_more_is_told_once_and_the_soak_goes_on(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    soaking = Soaking(tmp_path, minutes=1)
    soaking.soaked.save = tmp_path
    answer = await soaking.answer(Log(), Nodes())
    assert len(answer.data["detail"]["intervals"]) == 6
    assert soaking.err.getvalue().count("cannot write") == 1


async def test_under_json_nothing_is_printed_before_the_end(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    soaking = Soaking(tmp_path, minutes=1, output=Output.JSON)
    await soaking.answer(Log(), Nodes())
    assert soaking.out.getvalue() == ""


def test_the_growing_table_fits_80_columns_with_its_headings() -> None:
    out = io.StringIO()
    terminal = Terminal(Output.TABLE, stdout=out)
    soak.print_row(terminal, soak.headings([1, 2, 3]), Tone.STRONG)
    assert len(out.getvalue().rstrip("\n")) <= 80
    plain = io.StringIO()
    soak.print_row(Terminal(Output.PLAIN, stdout=plain), soak.headings([1]), Tone.STRONG)
    assert plain.getvalue() == ""


async def test_a_stall_at_the_end_is_in_the_latencies_and_one_of_the_warm_up_is_not(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    end = await Soaking(tmp_path, minutes=1).answer(Log(still_from=60, still_to=64), Nodes())
    assert end.data["figures"]["max_ms"] == pytest.approx(4000, rel=0.03)
    assert end.data["figures"]["unfinished"] == 0
    begin = await Soaking(tmp_path, minutes=1).answer(Log(still_from=0, still_to=2.5), Nodes())
    assert begin.data["figures"]["max_ms"] == pytest.approx(500, rel=0.05)


async def test_a_log_that_does_not_keep_up_is_called_an_overload(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    answer = await Soaking(tmp_path, minutes=1).answer(Slow(RATE / 2), Nodes())
    assert any("overload" in str(view) for view in answer.views)
    assert answer.data["figures"]["unfinished"] > 200
    assert answer.data["detail"]["rate_reached"] is False
    assert answer.exit_code is Exit.INCONCLUSIVE
    assert "the rate was not reached: 5 of 10 events/s" in answer.errors[0].message


async def test_what_drifts_under_an_overload_is_told_and_is_no_verdict(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    answer = await Soaking(tmp_path, minutes=10).answer(Slow(RATE / 2), Nodes())
    assert [error.code for error in answer.errors] == ["ES4303", "ES4306"]
    assert answer.exit_code is Exit.INCONCLUSIVE


async def test_a_node_that_is_gone_at_the_end_makes_it_inconclusive(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    class OneDies(Nodes):
        async def look(self) -> Usage:
            seen = await super().look()
            *others, last = seen.nodes
            gone = replace(last, cpu_s=None, rss_bytes=None) if self.looks > 20 else last
            return replace(seen, nodes=(*others, gone))

    answer = await Soaking(tmp_path, minutes=5).answer(Log(), OneDies())
    assert answer.exit_code is Exit.INCONCLUSIVE
    assert "node 3 did not answer" in answer.errors[0].message
