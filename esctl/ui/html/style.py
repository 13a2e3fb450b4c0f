"""How the page looks: light or dark as the reader's system is, narrow or wide as the screen is.

The colours of the curves are those of Okabe and Ito, which people with any colour vision tell apart; the
later ones are dashed as well. Nothing is loaded from anywhere. Called by `page.py`.
"""

from typing import Final

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""The browser loads and runs nothing, whatever may be in the page."""

CSS: Final = """
:root { color-scheme: light dark; --ground: #fff; --text: #1b1f24; --soft: #5b6570; --rule: #dde2e8;
  --card: #f6f8fa; --good: #0a7d4b; --bad: #c02626; --warn: #9a5b00; --band: #dbe4ee;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b0508a; --c4: #3a8fc9; --c5: #a87400; }
@media (prefers-color-scheme: dark) { :root { --ground: #12161b; --text: #e4e8ec; --soft: #9aa5b1;
  --rule: #2d353f; --card: #1a2027; --good: #4cc38a; --bad: #ff7b72; --warn: #e3a44a; --band: #34414f;
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
.legend > span { margin-right: 1rem; white-space: nowrap; display: inline-block; max-width: 100%;
  overflow: hidden; text-overflow: ellipsis; vertical-align: bottom; }
.swatch { display: inline-block; width: 1.1em; margin-right: .35em; vertical-align: middle; }
i[class*=fill] { height: .7em; } i[class*=line] { border-top: 3px solid; }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .1rem 1rem; margin: .5rem 0;
  font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; min-width: 0; } dd dl { margin: 0; }
summary { cursor: pointer; margin: .5rem 0; }
svg { width: 100%; height: auto; display: block; }
svg text { font: 13px system-ui, sans-serif; fill: var(--soft); }
svg .rule { stroke: var(--rule); } svg polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
svg .band { fill: var(--band); } svg .same { fill: var(--text); }
svg .better { fill: var(--good); } svg .worse { fill: var(--bad); }
@media (max-width: 34rem) { svg text { font-size: 17px; } .plots { margin: 0 -.5rem; } }
@media print { body { max-width: none; } figure { break-inside: avoid; } }
""" + "".join(
    f"svg .line{n} {{ stroke: var(--c{n});{dash} }} svg .fill{n} {{ fill: var(--c{n}); }}"
    f" i.line{n} {{ border-color: var(--c{n}); {'border-top-style: dashed; ' if dash else ''}}}"
    f" i.fill{n} {{ background: var(--c{n}); }}\n"
    for n, dash in enumerate(["", "", "", " stroke-dasharray: 6 3;", " stroke-dasharray: 2 3;",
                              " stroke-dasharray: 8 3 2 3;"])
)  # fmt: skip
