"""How a report looks: one style sheet, with colours for light, dark and paper.

>>> LIGHT.keys() == DARK.keys(), "url(" in sheet(), "@import" in sheet()
(True, False, False)
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["DARK", "LIGHT", "sheet"]

LIGHT = {
    "ground": "#ffffff",
    "panel": "#f3f5f7",
    "text": "#1b1f24",
    "muted": "#4b5560",
    "rule": "#c4ccd4",
    "warn-ground": "#fff0d6",
    "warn": "#7a3c00",
    "alarm-ground": "#b3122b",
    "alarm": "#ffffff",
    "s0": "#1f5fbf",
    "s1": "#b3540a",
    "s2": "#1c7a4a",
    "s3": "#7a3fb0",
    "s4": "#b3263e",
    "s5": "#4d5661",
}
"""Colours by role; s0 to s5 are those of lines."""

DARK = {
    "ground": "#14181c",
    "panel": "#1e2429",
    "text": "#e8eaed",
    "muted": "#b0bac4",
    "rule": "#4a5560",
    "warn-ground": "#3d2c0c",
    "warn": "#ffd591",
    "alarm-ground": "#ffb3bd",
    "alarm": "#3a0009",
    "s0": "#7fb2ff",
    "s1": "#ffab66",
    "s2": "#6fd6a0",
    "s3": "#cfa3ff",
    "s4": "#ff8fa0",
    "s5": "#b5bec9",
}

_SHAPE = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--ground);color:var(--text);
 font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
header,main,footer{max-width:60rem;margin:0 auto;padding:0 1rem}
h1{font-size:1.5rem;line-height:1.25;margin:1.25rem 0 .25rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.25rem 0 .5rem;padding-top:.75rem;
 border-top:1px solid var(--rule)}
h3{font-size:1rem;margin:1.25rem 0 .25rem}
p,ul,dl{margin:.5rem 0}
li{margin:.2rem 0}
ul{padding-left:1.25rem}
.note,footer,figcaption{color:var(--muted);font-size:.9rem}
.banner{margin:.75rem 0;padding:.75rem 1rem;border-radius:.4rem;
 background:var(--warn-ground);color:var(--warn);border:2px solid var(--warn)}
.banner strong{display:block;font-size:1.05rem}
.alarm{background:var(--alarm-ground);color:var(--alarm);
 border-color:var(--alarm-ground)}
.sentence{font-size:1.15rem;padding:1rem;border-left:.3rem solid var(--s0);
 background:var(--panel);margin:1rem 0}
.big{display:block;font-size:2rem;font-weight:700;line-height:1.2}
dl.facts{display:grid;grid-template-columns:minmax(7rem,max-content) 1fr;
 gap:.3rem 1rem}
dt{color:var(--muted)}
dd{margin:0;overflow-wrap:anywhere}
.figures{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,
 minmax(min(100%,22rem),1fr))}
figure{margin:.5rem 0;max-width:27rem;break-inside:avoid}
figcaption{margin:0 0 .25rem}
svg.chart{display:block;width:100%;height:auto;overflow:visible}
svg.swatch{width:36px;height:16px;flex:none}
svg text{font-size:14px;fill:var(--text)}
svg .end{text-anchor:end}
svg .middle{text-anchor:middle}
svg .name{fill:var(--muted)}
svg .grid{stroke:var(--rule);stroke-width:1;opacity:.6}
svg .axis{stroke:var(--muted);stroke-width:1}
svg .line{fill:none;stroke-width:2}
ul.legend{list-style:none;padding:0;margin:.25rem 0;font-size:.85rem}
ul.legend li{display:flex;align-items:center;gap:.5rem}
.scroll{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-size:.9rem;margin:.5rem 0}
caption{text-align:left;color:var(--muted);padding:.25rem 0}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--rule);text-align:left;
 vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
th.n{white-space:normal}
thead th{border-bottom:2px solid var(--muted)}
details{margin:.4rem 0}
summary{cursor:pointer;color:var(--muted);padding:.35rem 0}
code,.hash{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;
 font-size:.85rem;overflow-wrap:anywhere}
:focus-visible{outline:3px solid var(--s0);outline-offset:2px}
footer{margin-top:2rem;padding-bottom:2rem}
"""
_PRINT = """
body{font-size:10.5pt}
header,main,footer{max-width:none;padding:0}
.scroll{overflow:visible}
table,.banner,.sentence{break-inside:avoid}
h2,h3{break-after:avoid}
.banner,.sentence{print-color-adjust:exact;-webkit-print-color-adjust:exact}
details::details-content{content-visibility:visible;display:block;height:auto}
"""


def sheet() -> str:
    """The style sheet; it refers to nothing outside the page."""
    lines = "\n".join(
        f"svg .line.s{k}{{stroke:var(--s{k})}}svg .mark.s{k}{{fill:var(--s{k})}}"
        for k in range(6)
    )
    light, dark = _colours(LIGHT), _colours(DARK)
    return "\n".join(
        [
            f":root{{color-scheme:light dark;{light}}}",
            f"@media (prefers-color-scheme:dark){{:root{{{dark}}}}}",
            _SHAPE.strip(),
            lines,
            f"@media print{{:root{{color-scheme:light;{light}}}{_PRINT.strip()}}}",
        ]
    )


def _colours(table: Mapping[str, str]) -> str:
    return ";".join(f"--{role}:{colour}" for role, colour in table.items())
