"""Settings of Sphinx, which builds the documentation site: make docs."""

import importlib.metadata
import json
import os
import pathlib
import sys

import latex2mathml.converter
from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import notebook_pages

project = "unetjax"
author = "The unetjax developers"
release = importlib.metadata.version("unetjax")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_title = f"unetjax {release}"
highlight_language = "none"  # of blocks that name none: commands and output
autodoc_member_order = "bysource"
napoleon_use_ivar = True
html_math_renderer = "mathml"  # of the browser: MathJax would come from another host


class NotebookParser(MystParser):
    """Reads a notebook as Markdown; runs it first if UNETJAX_RUN_NOTEBOOKS is set."""

    supported = ("notebook",)

    def parse(self, inputstring, document):
        """Parses the page of a notebook into the document."""
        notebook = json.loads(inputstring)
        asked = os.environ.get("UNETJAX_RUN_NOTEBOOKS")
        outputs = notebook_pages.run(notebook) if asked else []
        super().parse(notebook_pages.page(notebook, outputs), document)


def setup(app):
    """Adds the renderer of formulas, and notebooks as sources of pages."""

    def render(display):
        def visit(writer, node):
            formula = latex2mathml.converter.convert(node.astext(), display=display)
            writer.body.append(formula)
            raise nodes.SkipNode

        return visit, None

    app.add_html_math_renderer("mathml", render("inline"), render("block"))
    app.add_source_suffix(".ipynb", "notebook")
    app.add_source_parser(NotebookParser)
