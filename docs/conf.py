"""Settings of Sphinx, which builds the documentation site: make docs."""

import importlib.metadata

import latex2mathml.converter
from docutils import nodes

project = "unetjax"
author = "The unetjax developers"
release = importlib.metadata.version("unetjax")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"unetjax {release}"
highlight_language = "none"  # of blocks that name none: commands and output
autodoc_member_order = "bysource"
napoleon_use_ivar = True
html_math_renderer = "mathml"  # of the browser: MathJax would come from another host


def setup(app):
    """Adds the renderer of formulas."""

    def render(display):
        def visit(writer, node):
            formula = latex2mathml.converter.convert(node.astext(), display=display)
            writer.body.append(formula)
            raise nodes.SkipNode

        return visit, None

    app.add_html_math_renderer("mathml", render("inline"), render("block"))
