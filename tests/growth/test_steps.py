"""What is to be done next for a plan, by what the logs say; played out from any place to the end."""

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esnode.dedup.ownership import RingPlan
from esnode.growth.steps import NEARLY_LEVEL, Copy, End, Standing, Switch, next_steps

GROWS = RingPlan(2, 1, 3)
SHRINKS = RingPlan(5, 4, 3)
NEW = Standing(1, 0, 0, {})


def test_keys_are_copied_while_those_who_lose_them_go_on() -> None:
    old = Standing(1, 0, 100_000, {})
    assert next_steps(GROWS, {0: old, 1: NEW, 2: NEW}) == [Copy(0, 1, 0), Copy(0, 2, 0)]
    half = replace(NEW, adopting={0: 50_000})
    assert next_steps(GROWS, {0: old, 1: half, 2: NEW}) == [Copy(0, 1, 50_000), Copy(0, 2, 0)]


def test_a_partition_switches_once_its_keys_are_nearly_copied_and_never_copied_not_at_all() -> None:
    old = Standing(1, 0, 100_000, {})
    close = replace(NEW, adopting={0: 100_000 - NEARLY_LEVEL})
    assert next_steps(GROWS, {0: old, 1: close, 2: close}) == [Switch(0)]
    empty = Standing(1, 0, 0, {})
    assert next_steps(GROWS, {0: empty, 1: NEW, 2: NEW}) == [Copy(0, 1, 0), Copy(0, 2, 0)]


def test_nobody_takes_moving_sources_before_the_last_key_is_copied() -> None:
    fenced = Standing(2, 100, 120, {})
    almost, all_of_them = replace(NEW, adopting={0: 99}), replace(NEW, adopting={0: 100})
    assert next_steps(GROWS, {0: fenced, 1: almost, 2: all_of_them}) == [Copy(0, 1, 99)]
    assert next_steps(GROWS, {0: fenced, 1: all_of_them, 2: all_of_them}) == [Switch(1), Switch(2)]


def test_what_a_partition_stores_of_its_own_after_it_switched_is_nobody_else_s() -> None:
    fenced, done = Standing(2, 100, 90_000, {}), Standing(2, 7, 500, {})
    assert next_steps(GROWS, {0: fenced, 1: done, 2: replace(NEW, adopting={0: 100})}) == [Switch(2)]
    assert next_steps(GROWS, {0: fenced, 1: done, 2: done}) == [End()]


def test_a_partition_that_is_taken_away_loses_its_keys_to_all_others() -> None:
    kept = Standing(4, 0, 1_000, {})
    found = next_steps(SHRINKS, {0: kept, 1: kept, 2: kept, 3: Standing(4, 0, 10, {})})
    assert found == [Copy(3, 0, 0), Copy(3, 1, 0), Copy(3, 2, 0)]
    level = replace(kept, adopting={3: 10})
    assert next_steps(SHRINKS, {0: level, 1: level, 2: level, 3: Standing(4, 0, 10, {})}) == [Switch(3)]


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32))
def test_every_plan_comes_to_its_end_and_never_opens_before_all_is_copied(
    before: int, after: int, seed: int
) -> None:
    if before == after:
        return
    plan, rng = RingPlan(7, before, after), random.Random(seed)
    logs = {n: Standing(6, 0, rng.randrange(60_000), {}) for n in range(max(before, after))}
    for _ in range(200):
        steps = next_steps(plan, logs)
        if steps == [End()]:
            break
        step = rng.choice(steps)  # the rest of them is told again
        assert not isinstance(step, End)
        if isinstance(step, Copy):
            upto = rng.randint(step.from_offset, logs[step.old_owner].next_offset)
            upto = max(upto, min(logs[step.old_owner].next_offset, step.from_offset + 9_000))
            new = logs[step.new_owner]
            logs[step.new_owner] = replace(new, adopting={**new.adopting, step.old_owner: upto})
        else:
            _check_switch(plan, step.partition, logs)
            log = logs[step.partition]
            logs[step.partition] = Standing(plan.version, log.next_offset, log.next_offset, {})
        loser = rng.choice(sorted(logs))
        log = logs[loser]
        logs[loser] = replace(log, next_offset=log.next_offset + rng.randrange(100))
    else:
        pytest.fail("the plan does not end")
    assert all(log.version == plan.version for log in logs.values())


def _check_switch(plan: RingPlan, partition: int, logs: Mapping[int, Standing]) -> None:
    kept = min(plan.old_partitions, plan.partitions)
    gains = partition >= kept if plan.partitions > plan.old_partitions else partition < kept
    losers = [n for n in logs if (n < kept) == (plan.partitions > plan.old_partitions)]
    if gains:
        for loser in losers:
            assert logs[loser].version == plan.version
            assert logs[partition].adopting[loser] >= logs[loser].since_offset
    else:
        assert partition in losers
