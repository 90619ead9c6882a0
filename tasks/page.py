"""A document as one HTML page that needs nothing else: no script, no network, no font, no image.

It is read on a phone and in the dark, and without telling colours apart (Okabe and Ito's blue and vermilion, with shapes and words;
"Color universal design", 2002). Its policy forbids a browser to run or fetch anything, should an escape ever be forgotten.
"""

from html import escape

from tasks import charts
from tasks.document import Block, Bullets, Cell, Chart, Document, Drawn, Link, Paragraph, Plot, Section, Table, clean

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--paper:#fff;--edge:#d0d7de;--band:#f6f8fa;--blue:#0072b2;--orange:#d55e00;--grey:#808890}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa4ae;--paper:#0d1117;--edge:#30363d;--band:#161b22;--blue:#56b4e9;--orange:#e69f00;--grey:#8b949e}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:60rem;margin:0 auto;padding:1.25rem 1rem 4rem}
h1{font-size:1.6rem;line-height:1.25;margin:.25rem 0 .75rem}
h2{font-size:1.2rem;margin:2.25rem 0 .5rem;padding-top:1rem;border-top:1px solid var(--edge)}
h3{font-size:1rem;margin:1.25rem 0 .25rem}
h1,h2,h3,p,li{overflow-wrap:anywhere}
p{margin:.5rem 0}
.place{color:var(--soft);margin:0}
.lead{font-size:1.05rem}
a{color:var(--blue)}
.wide{overflow-x:auto;margin:.5rem 0}
.wide:focus-visible{outline:2px solid var(--blue)}
table{border-collapse:collapse;font-size:.9rem;min-width:min(100%,20rem)}
th,td{text-align:left;vertical-align:top;padding:.35rem .75rem .35rem 0;border-bottom:1px solid var(--edge)}
th{color:var(--soft);font-weight:600;vertical-align:bottom}
td{min-width:7rem;max-width:34rem;overflow-wrap:anywhere}
td:first-child{min-width:4.5rem;overflow-wrap:normal}
td:nth-child(3):not(.number){min-width:13rem}
.number{text-align:right;font-variant-numeric:tabular-nums}
td.number{min-width:4rem;white-space:nowrap}
.chart{list-style:none;padding:0;margin:.5rem 0;font-size:.9rem}
.chart li{display:grid;grid-template-columns:12rem minmax(6rem,1fr) 19rem;gap:0 1rem;align-items:center;padding:.2rem 0}
.chart .figure{font-variant-numeric:tabular-nums}
.chart .sides{color:var(--soft);font-size:.85rem}
.sides i{font-style:normal}
.sides span{display:flex;justify-content:space-between;grid-column:2}
svg{display:block;width:100%;height:auto;overflow:visible}
.plot{max-width:30rem;margin:.5rem 0}
.legend{display:flex;flex-wrap:wrap;gap:0 1.25rem;padding:0;margin:.25rem 0;list-style:none;font-size:.9rem}
svg text{font-size:11px;fill:var(--soft)}
.zero,.grid{stroke:var(--edge);stroke-width:1}
.zero{stroke:var(--grey)}
.reach{stroke:var(--ink);stroke-width:1.5}
.better,.challenger{fill:var(--blue)}
.worse,.champion{fill:var(--orange)}
.other{fill:var(--grey)}
.open{fill:var(--paper);stroke:var(--ink);stroke-width:1.5}
.line{fill:none;stroke-width:2}
.line.challenger{stroke:var(--blue)}
.line.champion{stroke:var(--orange);stroke-dasharray:6 3}
.line.other{stroke:var(--grey);stroke-width:1;stroke-dasharray:2 3}
.key-challenger{color:var(--blue)}
.key-champion{color:var(--orange)}
summary{cursor:pointer;color:var(--soft);font-size:.9rem}
@media(max-width:44rem){
body{font-size:15px}h1{font-size:1.35rem}
.chart li{display:flex;flex-wrap:wrap;justify-content:space-between;padding:.4rem 0}.chart svg{order:3;flex-basis:100%}
.chart .sides span{flex-basis:100%}
}
"""


def html(document: Document) -> str:
    """Set a document as a page."""
    body = "\n".join(map(_section, document.sections))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{_words(document.title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<p class="place">{_words(document.place)}</p>\n<h1>{_words(document.title)}</h1>\n<p class="lead">{_words(document.lead)}</p>\n'
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def _words(text: str) -> str:
    return escape(clean(text), quote=True)


def _section(section: Section) -> str:
    return f"<section>\n<h2>{_words(section.title)}</h2>\n" + "\n".join(map(_block, section.blocks)) + "\n</section>"


def _block(block: Block) -> str:
    if isinstance(block, Paragraph):
        return f"<p>{_words(block.text)}</p>"
    if isinstance(block, Bullets):
        return "<ul>" + "".join(f"<li>{_cell(item)}</li>" for item in block.items) + "</ul>"
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Chart):
        return _chart(block)
    return _chart(block.chart) if isinstance(block, Drawn) else _plot(block)


def _cell(cell: Cell) -> str:
    if isinstance(cell, Link):
        target = cell.target
        return _words(cell.text) if target is None else f'<a href="{escape(target, quote=True)}" rel="noreferrer">{_words(cell.text)}</a>'
    return _words(cell)


def _table(table: Table) -> str:
    places = [' class="number"' if place in table.numbers else "" for place in range(len(table.header))]
    header = "".join(f'<th scope="col"{place}>{_words(name)}</th>' for name, place in zip(table.header, places, strict=True))
    rows = "".join(
        "<tr>" + "".join(f"<td{place}>{_cell(cell)}</td>" for cell, place in zip(row, places, strict=True)) + "</tr>\n"
        for row in table.rows
    )
    return (  # with a place in the order of tabs, so that it can be moved by keys where it is too wide
        f'<div class="wide" role="region" aria-label="{_words(", ".join(filter(None, table.header)) or "table")}" tabindex="0">'
        f"<table>\n<thead><tr>{header}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>"
    )


def _chart(chart: Chart) -> str:
    sides = "".join(f"<i>{_words(side)}</i>" for side in chart.sides)
    above = f'<li class="sides"><span>{sides}</span></li>\n' if any(chart.sides) else ""
    rows = "".join(
        f'<li><span class="label">{_words(mark.label)}</span>{drawing}<span class="figure">{_words(mark.figure)}</span></li>\n'
        for mark, drawing in zip(chart.marks, charts.drawn(chart), strict=True)
    )
    return f'<h3>{_words(chart.title)}</h3>\n<ul class="chart">\n{above}{rows}</ul>'


def _plot(plot: Plot) -> str:
    signs = {"challenger": "●", "champion": "◆"}
    legend = "".join(
        f'<li><span class="key-{line.colour}" aria-hidden="true">{signs[line.colour]}</span> {_words(line.name)}</li>'
        for line in plot.lines
        if line.colour in signs
    )
    return (
        f'<h3>{_words(plot.title)}</h3>\n<ul class="legend">{legend}</ul>\n<div class="plot">{charts.plot(plot)}</div>\n'
        f"<details><summary>The figures</summary>{_table(plot.table)}</details>"
    )
