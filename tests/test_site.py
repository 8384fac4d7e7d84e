"""The documentation site builds without a warning, and shows every public name."""

import pathlib
import re
import subprocess
import sys

import pytest

import unetjax

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    options = ["--fail-on-warning", "--keep-going", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, ROOT / "docs", folder],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_in_the_navigation(site):
    start = (site / "index.html").read_text()
    docs = ROOT / "docs"
    for page in (*docs.glob("*.md"), *docs.glob("*/*.ipynb")):
        name = page.relative_to(docs).with_suffix(".html")
        assert f'href="{name}"' in start or page.stem == "index"


def test_every_public_name_is_documented(site):
    reference = (site / "reference.html").read_text()
    documented = set(re.findall(r'id="unetjax\.([\w.]+)"', reference))
    names = {name for name in unetjax.__all__ if name != "presets"}
    assert names <= documented
    assert "network.presets.paper" in documented


def test_pages_ask_no_other_host_for_anything(site):
    """Fonts, styles and scripts lie beside the pages."""
    for page in site.rglob("*.html"):
        sources = re.findall(
            r'(?:src=|<link[^>]*href=)"(\w+://[^"]*)"', page.read_text()
        )
        assert not sources, page.name
