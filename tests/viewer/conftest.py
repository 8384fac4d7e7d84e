"""A folder of predictions with everything that a page shows, and its server."""

import contextlib
import http.client
import json
import threading
import urllib.parse

import numpy as np
import pytest

from unetjax.evaluation import prediction_files
from unetjax.files import images
from unetjax.files.pages import Metadata
from unetjax.inference.segmentation import Segmentation
from unetjax.instances.components import label_components
from unetjax.viewer import results, server


def threshold(pixels):
    """A segmentation without a network."""
    foreground = pixels[..., 0] > 100
    probability = np.clip(pixels[..., 0] / 200, 0, 1).astype(np.float32)
    probs = np.stack([1 - probability, probability], axis=-1)
    return Segmentation(
        probs, foreground.astype(np.int32), label_components(foreground)
    )


def draw(seed, *, height=70, width=90):
    """Squares of several grey values on a noisy ground, and their numbers."""
    rng = np.random.default_rng(seed)
    cells = np.zeros((height, width), np.int32)
    for number in range(1, 7):
        y, x = 10 + 22 * ((number - 1) % 3), 8 + 40 * ((number - 1) // 3)
        cells[y : y + 12, x : x + 14] = number
    image = rng.integers(0, 60, cells.shape) + 120 * (cells > 0) + 5 * cells
    return image.astype(np.uint8)[..., None], cells


@pytest.fixture
def study(tmp_path):
    """Folders images, masks and out: a, b (with wrong cells) and a stack, c."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    inputs = []
    for seed, name in enumerate("abc"):
        image, cells = draw(seed)
        path = tmp_path / "images" / f"{name}.tif"
        metadata = Metadata("Z", (3,)) if name == "c" else Metadata()
        if name == "b":
            cells[:, 45:] = 0
        if name == "c":
            image = np.stack([image, image[::-1], image // 2 + 60])
            cells = np.stack([cells, cells[::-1], cells])
        images.write_image(path, image, metadata)
        images.write_labels(tmp_path / "masks" / f"{name}.tif", cells, metadata)
        inputs.append(prediction_files.Input(name, image, metadata, path))
    prediction_files.write_all(
        threshold,
        inputs,
        tmp_path / "out",
        instances=True,
        probabilities=True,
        table=True,
        origin={"models": ["m"]},
    )
    return tmp_path


class Client:
    """Asks the server for paths below the address, over a connection of its own."""

    def __init__(self, address):
        self.address = address
        self._parts = urllib.parse.urlsplit(address)

    def ask(self, path, *, method="GET", host=None, whole=False):
        """Status, headers and content of the answer."""
        connection = http.client.HTTPConnection(self._parts.netloc, timeout=20)
        try:
            path = path if whole else self._parts.path + path
            headers = {} if host is None else {"Host": host}
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def json(self, path):
        status, _, content = self.ask(path)
        assert status == 200, content
        return json.loads(content)

    def tile(self, path, dtype):
        status, headers, content = self.ask(f"tile/{path}")
        assert status == 200, content
        shape = (int(headers["X-Height"]), int(headers["X-Width"]), -1)
        return np.frombuffer(content, dtype).reshape(shape)


@contextlib.contextmanager
def serve(found):
    """A server that runs in a thread, as a client."""
    with server.open_server("out", found, port=0) as (site, address):
        thread = threading.Thread(target=site.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield Client(address)
        finally:
            site.shutdown()
            thread.join()


@pytest.fixture
def client(study):
    found = results.find(study / "out", masks=study / "masks")
    with serve(found.results) as client:
        yield client
