"""How the page looks: light or dark as the reader's system is, narrow or wide as the screen is.

The colours of the curves are those of Okabe and Ito, which people with any colour vision tell apart; the
later ones are dashed as well. Nothing is loaded from anywhere. Called by `page.py`.
"""

import re
from typing import Final

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""The browser loads and runs nothing, whatever may be in the page."""

CSS: Final = """
:root { color-scheme: light dark; --ground: #fff; --text: #1b1f24; --soft: #5b6570; --rule: #dde2e8;
  --card: #f6f8fa; --good: #0a7d4b; --bad: #c02626; --warn: #9a5b00; --band: #dbe4ee;
  --down: #6e1414; --paused: #5661c9; --asking: #d9a400; --fault: #b5179e; --follows: #b9d3e6;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b0508a; --c4: #3a8fc9; --c5: #a87400; }
@media (prefers-color-scheme: dark) { :root { --ground: #12161b; --text: #e4e8ec; --soft: #9aa5b1;
  --rule: #2d353f; --card: #1a2027; --good: #4cc38a; --bad: #ff7b72; --warn: #e3a44a; --band: #34414f;
  --down: #b04a4a; --paused: #8f9bff; --asking: #f0c04a; --fault: #f06ad8; --follows: #33526b;
  --c0: #4aa8e0; --c1: #f28b3c; --c2: #2fc69a; --c3: #e08fbd; --c4: #8fd0ff; --c5: #f0c04a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--ground); color: var(--text);
  font: 16px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
h1, h2, h3, td, dd, li, p { overflow-wrap: anywhere; }
p { margin: .5rem 0; }
a { color: var(--c0); }
.soft { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .25rem .75rem .25rem 0; text-align: left; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.better { color: var(--good); font-weight: 600; }
.worse { color: var(--bad); font-weight: 600; }
.missing, .undecided, .warning { color: var(--warn); }
.told, .new { color: var(--soft); }
.plots { display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); gap: 0 2rem; }
figure { margin: 0; padding: .75rem; background: var(--card); border-radius: .5rem; min-width: 0; }
figcaption { font-weight: 600; font-size: .9rem; margin-bottom: .25rem; }
.legend { display: block; font-weight: 400; color: var(--soft); }
.legend > span { margin-right: 1rem; display: inline-block; max-width: 100%; overflow-wrap: anywhere; }
.swatch { display: inline-block; width: 1.1em; margin-right: .35em; vertical-align: middle; }
i[class*=fill] { height: .7em; } i[class*=line] { border-top: 3px solid; }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .1rem 1rem; margin: .5rem 0;
  font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; min-width: 0; } dd dl { margin: 0; }
summary { cursor: pointer; margin: .5rem 0; }
svg { display: block; } .plots svg { width: 100%; max-width: 44rem; height: auto; }
svg text { font: 13px system-ui, sans-serif; fill: var(--soft); }
.lanes { display: grid; grid-template-columns: 5.5rem minmax(0, 1fr); font-size: 13px; }
.lanes > .label { color: var(--soft); text-align: right; padding: .15em .6em 0 0; overflow-wrap: anywhere;
  line-height: 1.25; }
.lanes > svg { align-self: stretch; overflow: visible; }
.lanes .unit { display: block; font-size: 12px; }
.lanes.plot > .label { padding-top: 0; } .lanes .label svg { overflow: visible; }
svg .bar { stroke-width: 1.5px; } svg .mark { stroke-dasharray: 4 3; }
svg .bar.same { stroke: var(--text); } svg .bar.worse { stroke: var(--bad); }
svg .bar.fill1 { stroke: var(--c1); } svg .bar.band { stroke: var(--band); }
svg .rule { stroke: var(--rule); } svg polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
svg .band { fill: var(--band); } svg .same { fill: var(--text); }
svg .better { fill: var(--good); } svg .worse { fill: var(--bad); }
td.text { white-space: normal; min-width: 14rem; overflow-wrap: anywhere; }
@media (max-width: 34rem) { .plots svg text { font-size: 19px; } .plots { margin: 0 -.5rem; }
  .roomy { display: none; } figure { padding: .5rem; }
  .lanes { grid-template-columns: 4.6rem minmax(0, 1fr); }
  .list, .list tbody, .list tr, .list td { display: block; } .list th { display: none; }
  .list tr { border-bottom: 1px solid var(--rule); padding: .35rem 0; }
  .list td { border: 0; padding: 0 .75rem 0 0; display: inline-block; text-align: left; }
  .list td.text { display: block; min-width: 0; } }
@media print { :root { color-scheme: light; } body { max-width: none; padding: 0; font-size: 11pt; }
  figure, tr, .step { break-inside: avoid; } h2, h3 { break-after: avoid; } .wide { overflow: visible; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  details > :not(summary) { display: none; } }
""" + "".join(
    f"svg .line{n} {{ stroke: var(--c{n});{dash} }} svg .fill{n} {{ fill: var(--c{n}); }}"
    f" i.line{n} {{ border-color: var(--c{n}); {'border-top-style: dashed; ' if dash else ''}}}"
    f" i.fill{n} {{ background: var(--c{n}); }}\n"
    for n, dash in enumerate(["", "", "", " stroke-dasharray: 6 3;", " stroke-dasharray: 2 3;",
                              " stroke-dasharray: 8 3 2 3;"])
)  # fmt: skip

_VALUE: Final = re.compile(r"--([a-z0-9]+): (#[0-9a-f]+);")


def light(css: str) -> str:
    """`css` with the colours of a light page in the place of their names: for programs that know no names."""
    values: dict[str, str] = {}
    for name, value in _VALUE.findall(CSS):
        values.setdefault(name, value)  # the first are those of the light page
    return re.sub(r"var\(--([a-z0-9]+)\)", lambda match: values[match[1]], css)
