import base64
import html.parser
import io
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from unetjax.reporting import report
from unetjax.reporting.charts import Chart, Curve, histogram

EVIL = "<script>alert(\"1\")</script> & 'x' ü"


class Page(html.parser.HTMLParser):
    """What a browser would see: elements with their attributes, and text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def attributes(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def panel():
    return np.arange(40 * 30 * 3, dtype=np.uint32).reshape(40, 30, 3).astype(np.uint8)


def write(path, text, panel):
    report.write_report(
        path,
        title=text,
        summary=f"{text}\n\nsecond paragraph",
        tables=[
            report.Table(["metric", text], [{"metric": text, text: 1e-5}], text),
            report.Matrix([text, "b"], np.array([[90, 10], [0, 0]]), text),
        ],
        charts=[
            Chart(text, [Curve(text, [1, 2], [0.5, 0.25])], horizontal=text),
            histogram(text, {text: [0.5, 2.0]}, horizontal=text),
        ],
        cases=[report.Case(text, [(text, panel)], text)],
        configuration={text: [text]},
        environment={text: text},
        command=text,
    )
    return Page(path.read_text(encoding="utf-8"))


def test_every_text_is_escaped(tmp_path, panel):
    """The text appears wherever a plain one does, and never becomes an element."""
    plain = write(tmp_path / "plain.html", "plain", panel)
    evil = write(tmp_path / "evil.html", EVIL, panel)
    assert [tag for tag, _ in evil.elements] == [tag for tag, _ in plain.elements]
    in_json = EVIL.replace('"', '\\"')
    shown = evil.text.count(EVIL) + evil.text.count(in_json)
    assert shown == plain.text.count("plain") == 23
    assert evil.attributes("img")[0]["alt"] == EVIL
    assert evil.attributes("svg")[0]["aria-label"] == EVIL


def test_the_file_needs_nothing_else(tmp_path, panel):
    page = write(tmp_path / "report.html", "run", panel)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "iframe", "object", "embed", "video", "audio"}
    for _, attributes in page.elements:
        for name in attributes.keys() & {"src", "href", "srcset", "action"}:
            assert attributes[name].startswith("data:")
    assert not re.search(r"url\(|@import", page.text)
    policies = [m["content"] for m in page.attributes("meta") if "http-equiv" in m]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_a_matrix_shows_shares_of_each_true_class(tmp_path, panel):
    page = write(tmp_path / "report.html", "run", panel)
    shares = [td["style"] for td in page.attributes("td") if "style" in td]
    assert shares == ["--share: 90%", "--share: 10%", "--share: 0%", "--share: 0%"]
    assert "90.0%90" in page.text


def test_panels_are_the_pictures(tmp_path, panel):
    page = write(tmp_path / "report.html", "run", panel)
    (image,) = page.attributes("img")
    content = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(content)) as file:
        np.testing.assert_array_equal(np.array(file), panel)
    assert (image["width"], image["height"]) == ("30", "40")
    assert "30 \N{MULTIPLICATION SIGN} 40" in page.text
    assert image["class"] == "small"


def test_large_panels_are_reduced(tmp_path):
    """A slide of a gigapixel must not make a report that no browser opens."""
    path = tmp_path / "report.html"
    slide = np.zeros((1500, 3000, 3), np.uint8)
    report.write_report(path, title="x", cases=[report.Case("a", [("image", slide)])])
    page = Page(path.read_text(encoding="utf-8"))
    (image,) = page.attributes("img")
    assert (image["width"], image["height"]) == ("640", "320")
    assert "3000 \N{MULTIPLICATION SIGN} 1500" in page.text


def test_scores_keep_significant_digits(tmp_path, panel):
    assert "1.00e-05" in write(tmp_path / "report.html", "run", panel).text


def test_empty_sections_are_left_out(tmp_path):
    path = tmp_path / "report.html"
    report.write_report(path, title="Nothing yet", cases=[report.Case("a", [], "b")])
    page = Page(path.read_text(encoding="utf-8"))
    assert len(page.attributes("h1")) == 1
    assert len(page.attributes("h2")) == 1
    assert not page.attributes("header")[1:]


def test_a_file_is_replaced_on_request_only(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("before")
    with pytest.raises(FileExistsError, match=r"report\.html exists"):
        report.write_report(path, title="x")
    assert path.read_text() == "before"
    report.write_report(path, title="x", replace=True)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_file_names_that_are_not_utf8_are_written_with_question_marks(tmp_path):
    """A file name of bytes outside UTF-8 reaches Python as a lone surrogate."""
    name = b"zelle-\xfc.tif".decode(errors="surrogateescape")
    path = tmp_path / "report.html"
    report.write_report(path, title=name)
    assert "zelle-?.tif" in path.read_text(encoding="utf-8")


def test_a_browser_opens_it_without_complaint(tmp_path, panel):
    """Its content policy allows its own style; light and dark schemes differ."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("chromium is not installed")
    path = tmp_path / "report.html"
    write(path, EVIL, panel)
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    options += "--disable-background-networking --disable-component-update "
    options += "--disable-sync --hide-scrollbars --enable-logging=stderr --v=0"
    shots = []
    for scheme in ("", "--blink-settings=preferredColorScheme=0"):
        shot = tmp_path / f"shot{len(shots)}.png"
        command = [browser, *options.split(), f"--user-data-dir={tmp_path / 'profile'}"]
        command += [scheme] if scheme else []
        command += [f"--screenshot={shot}", "--window-size=600,900", path.as_uri()]
        done = subprocess.run(command, capture_output=True, timeout=120)
        assert b"CONSOLE" not in done.stderr, done.stderr.decode()
        with Image.open(shot) as image:
            shots.append(np.asarray(image.convert("L"), float).mean())
    assert shots[0] > shots[1] + 80


def test_pictures_come_first_and_a_click_enlarges_them(tmp_path, panel):
    """By a box to check, as no script may run; versions are folded away."""
    path = tmp_path / "report.html"
    table = report.Table(["score"], [{"score": 0.5}])
    cases = [report.Case("a", [("image", panel)])]
    report.write_report(
        path, title="x", tables=[table], cases=cases, environment={"jax": "0.10"}
    )
    text = path.read_text(encoding="utf-8")
    assert text.index("<h2>Images</h2>") < text.index("<h2>Scores</h2>")
    assert '<label><input type="checkbox" aria-label="enlarge"><img ' in text
    assert ".panels input:checked + img" in text
    folded = text[text.index("<details>") : text.index("</details>")]
    assert "0.10" in folded
