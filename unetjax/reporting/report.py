"""One self-contained HTML file that shows a run: scores, curves, pictures, origin."""

import base64
import json
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Int, UInt8

from unetjax.files import folders
from unetjax.reporting import charts, console, pictures
from unetjax.reporting.charts import Chart, Histogram, node

_SMALL = 200  # pixels of a panel's longer side below which its pixels stay squares
_PANEL_SIDE = 640  # pixels of a panel's longer side; larger ones are reduced


class Table(NamedTuple):
    """Scores to read, best with a baseline beside ours.

    Attributes:
      columns: Names of the columns, in order.
      rows: Values by the name of their column.
      caption: What the table shows, and of which images.
    """

    columns: Sequence[str]
    rows: Sequence[Mapping[str, int | float | str]]
    caption: str = ""


class Matrix(NamedTuple):
    """How often which class was taken for which.

    Attributes:
      names: Names of the classes.
      counts: Pixels of every true class (row) and predicted class (column).
      caption: Of which images.
    """

    names: Sequence[str]
    counts: Int[np.ndarray, "K K"]
    caption: str = ""


class Case(NamedTuple):
    """One image and what was made of it.

    Attributes:
      name: Name of the image.
      panels: Captions and pictures, such as image, truth, prediction and weight map.
      note: What to see there, or its scores.
    """

    name: str
    panels: Sequence[tuple[str, UInt8[np.ndarray, "_ _ 3"]]]
    note: str = ""


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    summary: str = "",
    tables: Sequence[Table | Matrix] = (),
    charts: Sequence[Chart | Histogram] = (),
    cases: Sequence[Case] = (),
    configuration: Mapping[str, object] | None = None,
    environment: Mapping[str, object] | None = None,
    command: str = "",
    replace: bool = False,
) -> None:
    """Writes one HTML file that needs no other file, no network and no script.

    Sections without content are left out.

    Args:
      path: The file to write, such as `report.html` in the run folder.
      title: What was run, on what.
      summary: The result in a sentence or two; an empty line starts a paragraph.
      tables: Scores, and the confusion of classes.
      charts: Curves of training and validation, and histograms.
      cases: Images with their pictures, one row each.
      configuration: The resolved configuration, which JSON can hold.
      environment: Versions, devices and times, by name.
      command: What to type to get the same run.
      replace: Whether an existing file may be replaced, as the report of a run folder.

    Raises:
      FileExistsError: There is a file of that name and `replace` is false.
    """
    page = _page(
        title,
        _header(title, summary),
        _section("Scores", [_scores(table) for table in tables], "tables"),
        _section("Curves", [_figure(chart) for chart in charts], "charts"),
        _section("Images", [_case(case) for case in cases], "cases"),
        _section("Origin", _origin(configuration, environment, command), "origin"),
    )
    with folders.write_atomically(path, replace=replace) as temporary:
        # Paths may hold bytes that are no text; they become question marks.
        temporary.write_bytes(page.encode(errors="replace"))


def _page(title: str, *sections: ElementTree.Element | None) -> str:
    """Returns the document; the policy makes a browser load nothing from outside."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = node(
        "head",
        node("meta", charset="utf-8"),
        node("meta", name="generator", content="unetjax"),
        node("meta", name="viewport", content="width=device-width, initial-scale=1"),
        node("meta", name="color-scheme", content="light dark"),
        node("meta", http_equiv="Content-Security-Policy", content=policy),
        node("link", rel="icon", href="data:,"),
        node("title", title),
        node("style", _STYLE),
    )
    shown = [section for section in sections if section is not None]
    html = node("html", head, node("body", node("main", *shown)), lang="en")
    return "<!doctype html>\n" + ElementTree.tostring(
        html, encoding="unicode", method="html"
    )


def _header(title: str, summary: str) -> ElementTree.Element:
    paragraphs = [node("p", text) for text in summary.split("\n\n") if text.strip()]
    return node("header", node("h1", title), *paragraphs)


def _section(
    title: str, content: Sequence[ElementTree.Element], kind: str
) -> ElementTree.Element | None:
    if not content:
        return None
    body = node("div", *content, class_=kind)
    return node("section", node("h2", title), body)


def _scores(table: Table | Matrix) -> ElementTree.Element:
    return _table(table) if isinstance(table, Table) else _matrix(table)


def _matrix(matrix: Matrix) -> ElementTree.Element:
    """Returns shares of each true class, the darker the larger, above their pixels."""
    heads = [node("th", text) for text in ("true, found as", *matrix.names)]
    rows = []
    for name, counts in zip(matrix.names, matrix.counts.tolist(), strict=True):
        row = node("tr", node("td", name, class_="word"))
        for pixels in counts:
            share = pixels / max(sum(counts), 1)
            row.append(
                node(
                    "td",
                    node("b", f"{share:.1%}"),
                    node("small", f"{pixels:,}"),
                    class_="share",
                    style=f"--share: {100 * share:.0f}%",
                )
            )
        rows.append(row)
    return node(
        "table",
        node("caption", matrix.caption),
        node("thead", node("tr", *heads)),
        node("tbody", *rows),
        class_="matrix",
    )


def _table(table: Table) -> ElementTree.Element:
    head = node("tr", *[node("th", name) for name in table.columns])
    rows = [
        node("tr", *[_cell(row.get(name, "")) for name in table.columns])
        for row in table.rows
    ]
    return node(
        "table",
        node("caption", table.caption),
        node("thead", head),
        node("tbody", *rows),
    )


def _cell(value: int | float | str) -> ElementTree.Element:
    kind = "word" if isinstance(value, str) else "number"
    return node("td", console.number(value), class_=kind)


def _figure(chart: Chart | Histogram) -> ElementTree.Element:
    legend = [
        node("span", name, class_=f"c{i % 6}")
        for i, name in enumerate(charts.names(chart))
    ]
    return node(
        "figure",
        node("figcaption", chart.title),
        charts.svg(chart),
        node("div", *legend, class_="legend"),
    )


def _case(case: Case) -> ElementTree.Element:
    panels = [_panel(caption, picture) for caption, picture in case.panels]
    sizes = [
        node("small", f"{picture.shape[1]} \N{MULTIPLICATION SIGN} {picture.shape[0]}")
        for _, picture in case.panels[:1]
    ]
    return node(
        "article",
        node("h3", case.name, *sizes, node("small", case.note)),
        node("div", *panels, class_="panels"),
    )


def _panel(caption: str, picture: UInt8[np.ndarray, "_ _ 3"]) -> ElementTree.Element:
    shown = pictures.thumbnail(picture, side=_PANEL_SIDE)
    height, width = shown.shape[:2]
    png = base64.b64encode(pictures.png_bytes(shown)).decode()
    image = node(
        "img",
        src=f"data:image/png;base64,{png}",
        alt=caption,
        width=width,
        height=height,
        class_="small" if max(width, height) < _SMALL else "large",
    )
    return node("figure", image, node("figcaption", caption))


def _origin(
    configuration: Mapping[str, object] | None,
    environment: Mapping[str, object] | None,
    command: str,
) -> list[ElementTree.Element]:
    """Returns what it takes to repeat the run."""
    content = []
    if command:
        content.append(node("pre", command, class_="command"))
    if environment:
        pairs = [
            node("div", node("dt", name), node("dd", str(value)))
            for name, value in environment.items()
        ]
        content.append(node("dl", *pairs))
    if configuration:
        text = json.dumps(configuration, indent=2, ensure_ascii=False, default=str)
        summary = node("summary", "Configuration")
        content.append(node("details", summary, node("pre", text)))
    return content


_STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfbfa; --card: #fff; --text: #22262b; --soft: #6a7280; --line: #e4e5e3;
  --c0: #0b6fb8; --c1: #d2611c; --c2: #17876a; --c3: #a8488f; --c4: #8a7a0f;
  --c5: #56616f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --card: #1b1f23; --text: #e3e6e8; --soft: #949ca6;
    --line: #2d3338;
    --c0: #62b4f0; --c1: #f2995c; --c2: #4fc7a2; --c3: #dc8fc6; --c4: #d3c14e;
    --c5: #a5b0bd;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 1200px; margin: 0 auto; padding: 3.5rem 1.5rem 5rem; }
h1 { font-size: 2rem; line-height: 1.2; font-weight: 650; margin: 0 0 .75rem; }
header p { max-width: 44rem; margin: 0 0 .6rem; font-size: 1.08rem; }
h2 {
  font-size: .82rem; font-weight: 600; letter-spacing: .09em; color: var(--soft);
  text-transform: uppercase; margin: 3.2rem 0 1.1rem; padding-top: 1rem;
  border-top: 1px solid var(--line);
}
h3 { font-size: 1rem; font-weight: 600; margin: 0 0 .6rem; }
small { color: var(--soft); font-size: .86em; font-weight: 400; margin-left: .8em; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: .9rem; margin-top: .4rem; }
.tables {
  display: flex; flex-wrap: wrap; gap: 2rem 3.5rem; align-items: flex-start;
  overflow-x: auto;
}
.charts, .panels { display: grid; gap: 1rem; }
.charts { grid-template-columns: repeat(auto-fit, minmax(min(21rem, 100%), 1fr)); }
.panels { grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); font-size: .9rem; padding: 0 0 .5rem; }
th, td { padding: .38rem 0 .38rem 2.2rem; text-align: right; }
th:first-child, td:first-child { padding-left: 0; text-align: left; }
th { font-weight: 500; font-size: .9rem; color: var(--soft); }
tbody tr { border-top: 1px solid var(--line); }
.matrix td, .matrix th { padding: .45rem .9rem; text-align: center; }
.matrix tr > :first-child { padding-left: 0; text-align: left; }
.share { background: color-mix(in srgb, var(--c0) calc(.45 * var(--share)), #0000); }
.share b { display: block; font-weight: 600; }
.share small { margin: 0; }
.charts figure {
  max-width: 36rem; padding: 1rem 1.1rem .9rem;
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
}
.charts figcaption { font-weight: 600; margin: 0 0 .5rem; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--soft); font-size: 13px; font-variant-numeric: tabular-nums; }
.end text { text-anchor: end; }
.middle text { text-anchor: middle; }
.axis line { stroke: var(--line); }
polyline { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; }
polygon { fill: var(--c); opacity: .2; }
circle { fill: var(--c); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .9rem; }
.legend span::before {
  content: ""; display: inline-block; width: 1.1em; height: 3px; margin-right: .5em;
  border-radius: 2px; background: var(--c); vertical-align: .25em;
}
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); }
.c3 { --c: var(--c3); } .c4 { --c: var(--c4); } .c5 { --c: var(--c5); }
.cases { display: grid; gap: 2.2rem; }
.panels figure { max-width: 24rem; }
img { display: block; width: 100%; height: auto; border-radius: 6px; }
.small { image-rendering: pixelated; }
pre {
  margin: 0; padding: .9rem 1.1rem; overflow-x: auto; border-radius: 8px;
  background: var(--card); border: 1px solid var(--line);
  font: .86rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
}
.origin { display: grid; gap: 1.3rem; }
.origin > * { min-width: 0; }
dl {
  display: grid; gap: .8rem 2rem; margin: 0;
  grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr));
}
dt { color: var(--soft); font-size: .86rem; }
dd { margin: 0; overflow-wrap: anywhere; }
summary { cursor: pointer; margin-bottom: .6rem; }
@media print { main { padding: 0; } article, figure { break-inside: avoid; } }
"""
