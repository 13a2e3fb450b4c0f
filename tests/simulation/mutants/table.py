"""What the trials have shown, for a terminal and for `docs/testing.md`."""

from collections.abc import Mapping, Sequence

from tests.simulation.mutants.mutant import Mutant
from tests.simulation.mutants.trial import Verdict


def line_of(verdict: Verdict) -> str:
    """One verdict on one line."""
    if verdict.killed and not verdict.seeds:
        return f"killed   {verdict.name}: {verdict.rule} fails"
    minutes = verdict.simulated_s / 60
    if not verdict.killed:
        return f"SURVIVES {verdict.name}: {verdict.seeds} seeds, {minutes:.0f} simulated minutes"
    return (
        f"killed   {verdict.name}: {verdict.seeds} seeds, {minutes:.1f} simulated minutes,"
        f" seed {verdict.seed}: {verdict.rule} ({verdict.text})"
    )


def markdown(mutants: Sequence[Mutant], verdicts: Mapping[str, Verdict]) -> str:
    """The table, in the order of the catalogue."""
    lines = [
        "| planted bug | source | wrong behaviour | tier | seeds needed | simulated minutes | detected by |",
        "|---|---|---|---|---|---|---|",
    ]
    for mutant in mutants:
        verdict = verdicts[mutant.name]
        caught = verdict.rule or "**survives**"
        cost = f"{verdict.seeds} | {verdict.simulated_s / 60:.1f}"
        if mutant.test:
            caught, cost = f"`{mutant.test.partition('::')[0]}` `{caught}`", " | "
        lines.append(
            f"| {mutant.name} | {mutant.source} | {mutant.bug} | {mutant.tier} | {cost} | {caught} |"
        )
    return "\n".join(lines)


def summary(verdicts: Sequence[Verdict], sound: Sequence[Verdict]) -> str:
    """How many were killed, and whether the simulation is quiet without a bug."""
    killed = [verdict for verdict in verdicts if verdict.killed]
    tested = sum(not verdict.seeds for verdict in killed)
    text = f"{len(killed)} of {len(verdicts)} killed, {tested} of them by a scripted test"
    if len(killed) > tested:
        text += f", the slowest after {max(verdict.seeds for verdict in killed)} seeds"
    for verdict in sound:
        state = f"BROKEN in seed {verdict.seed}: {verdict.rule}" if verdict.killed else "no violation"
        text += f"; without a bug, {verdict.seeds} seeds of {verdict.name[-1:]}: {state}"
    return text
