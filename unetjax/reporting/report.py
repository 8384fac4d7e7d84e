"""HTML report of a run in one file: scores, curves, pictures, configuration."""

import base64
import importlib.resources
import json
import os
import string
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from unetjax.files import folders
from unetjax.reporting import charts, console, pictures
from unetjax.reporting.charts import Chart
from unetjax.reporting.pictures import Picture

_SMALL = 200  # pixels: panels with a shorter longer side are enlarged without blur
_PANEL_SIDE = 640  # pixels: the longer side to which larger panels are reduced


class Table(NamedTuple):
    """A table of scores.

    Attributes:
      columns: Names of the columns, in order.
      rows: Values by the name of their column.
      caption: What the table shows, and of which images.
    """

    columns: Sequence[str]
    rows: Sequence[Mapping[str, int | float | str]]
    caption: str = ""


class Matrix(NamedTuple):
    """A confusion matrix.

    Attributes:
      names: Names of the classes.
      counts: Pixels of every true class (row) and predicted class (column).
      caption: What was counted, on which images.
    """

    names: Sequence[str]
    counts: Int[np.ndarray, "K K"]
    caption: str = ""


class Case(NamedTuple):
    """One image with its pictures.

    Attributes:
      name: Name of the image.
      panels: Captions and pictures, such as image, truth, prediction and weight map.
      note: A remark, such as its scores.
    """

    name: str
    panels: Sequence[tuple[str, Picture]]
    note: str = ""


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    summary: str = "",
    tables: Sequence[Table | Matrix] = (),
    charts: Sequence[Chart] = (),
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
      tables: Scores and confusion matrices.
      charts: Curves of training and validation, and histograms.
      cases: Images with their pictures, one row each; they come first, and a click
        shows a picture as large as the window.
      configuration: The resolved configuration, fit for JSON.
      environment: Versions, devices and times, by name.
      command: The command line that repeats the run.
      replace: Whether an existing file may be replaced, as the report of a run folder.

    Raises:
      FileExistsError: If the file exists and `replace` is false.
    """
    sections = {
        ("Images", "cases"): [_case(case) for case in cases],
        ("Scores", "tables"): [
            _table(table) if isinstance(table, Table) else _matrix(table)
            for table in tables
        ],
        ("Curves", "charts"): [_figure(chart) for chart in charts],
        ("Origin", "origin"): _origin(configuration, environment, command),
    }
    page = string.Template(_resource("report_template.html")).substitute(
        title=escape(title),
        style=_resource("report.css"),
        summary="".join(
            f"<p>{escape(text)}</p>" for text in summary.split("\n\n") if text.strip()
        ),
        sections="\n".join(
            f'<section><h2>{heading}</h2><div class="{kind}">{"".join(parts)}</div>'
            "</section>"
            for (heading, kind), parts in sections.items()
            if parts
        ),
    )
    with folders.write_atomically(path, replace=replace) as temporary:
        # File names may hold bytes that are not UTF-8; these become question marks.
        temporary.write_bytes(page.encode(errors="replace"))


def _resource(name: str) -> str:
    return (
        importlib.resources.files("unetjax.reporting").joinpath(name).read_text("utf-8")
    )


def _table(table: Table) -> str:
    rows = [
        "".join(_cell(row.get(name, "")) for name in table.columns)
        for row in table.rows
    ]
    return _html_table(table.caption, table.columns, rows)


def _matrix(matrix: Matrix) -> str:
    """Returns the share of each predicted class in each true class, and the pixels."""
    rows = []
    for name, counts in zip(matrix.names, matrix.counts.tolist(), strict=True):
        row = _cell(name)
        for pixels in counts:
            share = pixels / max(sum(counts), 1)
            row += (
                f'<td class="share" style="--share: {100 * share:.0f}%">'
                f"<b>{share:.1%}</b><small>{pixels:,}</small></td>"
            )
        rows.append(row)
    columns = ("true, predicted as", *matrix.names)
    return _html_table(matrix.caption, columns, rows, kind="matrix")


def _html_table(
    caption: str, columns: Sequence[str], rows: Sequence[str], kind: str = "scores"
) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<table class="{kind}"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
    )


def _cell(value: int | float | str) -> str:
    kind = "word" if isinstance(value, str) else "number"
    return f'<td class="{kind}">{escape(console.number(value))}</td>'


def _figure(chart: Chart) -> str:
    legend = "".join(
        f'<span class="c{i % 6}">{escape(curve.name)}</span>'
        for i, curve in enumerate(chart.curves)
    )
    return (
        f"<figure><figcaption>{escape(chart.title)}</figcaption>{charts.svg(chart)}"
        f'<div class="legend">{legend}</div></figure>'
    )


def _case(case: Case) -> str:
    panels = "".join(_panel(caption, picture) for caption, picture in case.panels)
    size = ""
    if case.panels:
        height, width = case.panels[0][1].shape[:2]
        size = f"<small>{width} \N{MULTIPLICATION SIGN} {height}</small>"
    return (
        f"<article><h3>{escape(case.name)}{size}<small>{escape(case.note)}</small></h3>"
        f'<div class="panels">{panels}</div></article>'
    )


def _panel(caption: str, picture: Picture) -> str:
    shown = pictures.thumbnail(picture, side=_PANEL_SIDE)
    height, width = shown.shape[:2]
    png = base64.b64encode(pictures.png_bytes(shown)).decode()
    kind = "small" if max(width, height) < _SMALL else "large"
    return (
        '<figure><label><input type="checkbox" aria-label="enlarge">'
        f'<img src="data:image/png;base64,{png}" alt="{escape(caption)}" '
        f'width="{width}" height="{height}" class="{kind}"></label>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _origin(
    configuration: Mapping[str, object] | None,
    environment: Mapping[str, object] | None,
    command: str,
) -> list[str]:
    """Returns what it takes to repeat the run."""
    parts = []
    if command:
        parts.append(f'<pre class="command">{escape(command, quote=False)}</pre>')
    if environment:
        pairs = "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>"
            for name, value in environment.items()
        )
        parts.append(
            "<details><summary>Versions, devices and times</summary>"
            f"<dl>{pairs}</dl></details>"
        )
    if configuration:
        text = json.dumps(configuration, indent=2, ensure_ascii=False, default=str)
        parts.append(
            "<details><summary>Configuration</summary>"
            f"<pre>{escape(text, quote=False)}</pre></details>"
        )
    return parts
