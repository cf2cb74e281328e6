"""HTML of a report in small pieces; every text in it is escaped, so that a sample may be named as one likes."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 62rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.7rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; padding-bottom: .2rem; border-bottom: 1px solid #ccc; }
p { margin: .4rem 0; }
.badge { display: inline-block; margin: .2rem 0 .6rem; padding: .2rem 1rem; border: 3px solid #b35900; color: #b35900;
  font-size: 1.6rem; font-weight: 700; letter-spacing: .08em; }
.quiet { color: #555; }
.verdict { margin: 1rem 0; padding: .6rem 1rem; border-left: .5rem solid #08306b; background: #f2f5f9; }
.verdict.attention { border-color: #b35900; background: #fdf3e7; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: .5rem 0; flex: 1 1 24rem; max-width: 36rem; break-inside: avoid; }
figure img { width: 100%; height: auto; }
figcaption { color: #555; font-size: .9rem; }
table { border-collapse: collapse; margin: .4rem 0; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #e3e3e3;
  overflow-wrap: break-word; }
td:last-child { overflow-wrap: anywhere; }
th { font-weight: 600; }
th.number { text-align: right; }
table.figures-of th { width: 15rem; font-weight: 400; color: #555; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td img { width: 7rem; height: auto; display: block; }
pre { font-size: .82rem; line-height: 1.35; background: #f6f6f6; padding: .8rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }
summary { cursor: pointer; }
ul { margin: .3rem 0; padding-left: 1.3rem; }
@media print {
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  h2, tr { break-after: avoid; break-inside: avoid; }
  details:not([open]) { display: none; }
}
"""


def page(name: str, parts: Iterable[str]) -> str:
    """A whole page that needs nothing beside itself."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(name)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def title(text: object) -> str:
    """What the page is about."""
    return f"<h1>{escape(str(text))}</h1>"


def section(heading: str, *parts: str) -> str:
    """A heading and what stands under it; nothing where that is empty."""
    filled = [part for part in parts if part]
    return "\n".join([f"<h2>{escape(heading)}</h2>", *filled]) if filled else ""


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph."""
    return f"<p{_kind(kind)}>{escape(text)}</p>"


def bullets(texts: Iterable[object]) -> str:
    """A list; nothing where it is empty."""
    items = "".join(f"<li>{escape(str(text))}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def figures_table(rows: Iterable[tuple[str, Any]]) -> str:
    """What and figure; rows whose figure is None or empty are left out."""
    made = "".join(
        f'<tr><th scope="row">{escape(what)}</th><td>{escape(str(figure))}</td></tr>'
        for what, figure in rows
        if figure not in (None, "")
    )
    return f'<table class="figures-of">{made}</table>' if made else ""


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, numbers_from: int | None = None) -> str:
    """A table with a head; numbers_from: the first column of numbers. An ``Embedded`` cell is put in as it is."""

    def kind(place: int) -> str:
        return ' class="number"' if numbers_from is not None and place >= numbers_from else ""

    def cell(place: int, value: object) -> str:
        return f"<td{kind(place)}>{value.html if isinstance(value, Embedded) else escape(str(value))}</td>"

    head = "".join(f'<th scope="col"{kind(place)}>{escape(each)}</th>' for place, each in enumerate(heads))
    body = "".join("<tr>" + "".join(cell(*each) for each in enumerate(row)) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if body else ""


class Embedded:
    """HTML that is put in as it is."""

    def __init__(self, html: str) -> None:
        self.html = html


def picture(svg: str, alt: str) -> Embedded:
    """An SVG file as an image of the page, its identifiers apart from those of others."""
    data = base64.b64encode(svg.encode("utf-8")).decode("ascii")
    return Embedded(f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,{data}">')


def figure(svg: str, caption: str) -> str:
    """A plot and what it shows."""
    return f"<figure>{picture(svg, caption).html}<figcaption>{escape(caption)}</figcaption></figure>"


def figures(*each: str) -> str:
    """Figures beside each other, as far as there is room; empty ones are left out."""
    filled = "\n".join(figure for figure in each if figure)
    return f'<div class="figures">{filled}</div>' if filled else ""


def box(parts: Iterable[str], *, attention: bool) -> str:
    """What should be read first."""
    return f'<div class="verdict{" attention" if attention else ""}">{"".join(parts)}</div>'


def shown_time(iso: object) -> str:
    """A time in ISO 8601, for people."""
    return str(iso).replace("T", " ").replace("+00:00", " UTC")


def badge(text: str) -> str:
    """A word in large letters."""
    return f'<div class="badge">{escape(text)}</div>'


def folded(summary: str, text: str) -> str:
    """Text that is shown when it is asked for."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def _kind(kind: str) -> str:
    return f' class="{escape(kind)}"' if kind else ""
