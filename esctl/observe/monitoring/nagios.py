"""A plugin's line as Nagios, Icinga and others read it: state, text, and figures after a bar.

Pure. See the Monitoring Plugins Development Guidelines: one line, `label=value[unit];warn;crit`. Called by
`esctl status metrics --format nagios`.
"""

import math
from collections.abc import Sequence

from esctl.observe.monitoring.probes import Probe, ProbeReading, ProbeState, worst


def line(readings: Sequence[ProbeReading]) -> str:
    """One line for all the readings; the worst ones speak first."""
    state = worst(list(readings))
    order = (ProbeState.CRITICAL, ProbeState.WARNING, ProbeState.UNKNOWN, ProbeState.OK)
    told = sorted(readings, key=lambda reading: order.index(reading.state))
    if state is not ProbeState.OK and len(told) > 1:
        told = [reading for reading in told if reading.state is not ProbeState.OK]
    texts = "; ".join(f"{reading.probe.name}: {reading.text}" for reading in told)
    figures = " ".join(_figure(reading) for reading in readings if reading.value is not None)
    return f"{state.name} - {_clean(texts)}" + (f" | {figures}" if figures else "")


def unknown(text: str) -> str:
    """The line for a check that could not be made."""
    return f"{ProbeState.UNKNOWN.name} - {_clean(text)}"


def _figure(reading: ProbeReading) -> str:
    probe = reading.probe
    bounds = f"{_bound(probe, probe.warn)};{_bound(probe, probe.crit)}"
    return f"{probe.name}={_plain(reading.value or 0.0)}{_unit(probe)};{bounds}"


def _unit(probe: Probe) -> str:
    return probe.unit if probe.unit in ("%", "ms", "MB") else ""


def _bound(probe: Probe, value: float) -> str:
    """A range in their words: `10` alerts above 10, `10:` below 10."""
    if math.isinf(value):
        return ""
    return f"{_plain(value)}:" if probe.falling else _plain(value)


def _plain(value: float) -> str:
    """Without an exponent: a figure is of digits, a point and a sign."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _clean(text: str) -> str:
    """A bar begins the figures, and a line ends the text."""
    return " ".join(text.replace("|", "/").split())
