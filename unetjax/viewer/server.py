"""The server of the page: on this machine only, reading only, files by number only."""

import contextlib
import hmac
import http.server
import importlib.resources
import json
import pathlib
import secrets
import socketserver
import sys
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from unetjax.files.names import escape
from unetjax.reporting import pictures
from unetjax.viewer.layers import LAYERS, Reader
from unetjax.viewer.ranking import Ranking
from unetjax.viewer.results import Result

_ADDRESS = "127.0.0.1"
_HOSTS = (_ADDRESS, "localhost")  # other names may lead here as well, by DNS rebinding
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_THUMBNAIL = 96  # pixels: longer side
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Answer(NamedTuple):
    """What is sent."""

    content: bytes
    media_type: str
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = {}


class Site:
    """Everything that can be asked for, by path.

    Args:
      title: Name of the folder.
      results: The results.
      reader: Of these results.
      ranking: Of these results.
    """

    def __init__(
        self, title: str, results: Sequence[Result], reader: Reader, ranking: Ranking
    ) -> None:
        self._title, self._results = title, results
        self._reader, self._ranking = reader, ranking
        self._files = {
            each.name: Answer(each.read_bytes(), f"{kind}; charset=utf-8")
            for each in importlib.resources.files("unetjax.viewer")
            .joinpath("page")
            .iterdir()
            if (kind := _TYPES.get(pathlib.PurePath(each.name).suffix)) is not None
        }
        self._files[""] = self._files["index.html"]
        self._routes: dict[tuple[str, int], Callable[..., Answer]] = {
            ("list", 0): self._list,
            ("item", 1): self._item,
            ("objects", 2): self._objects,
            ("tile", 6): self._tile,
            ("thumbnail", 1): self._thumbnail,
        }

    def answer(self, path: str) -> Answer:
        """Returns what a path, without its first slash, leads to.

        `list`; `item/I`; `objects/I/PAGE`; `tile/I/LAYER/PAGE/LEVEL/ROW/COLUMN`, all
        of them numbers from 0; `thumbnail/I`; and the files of the page. Nothing else.
        """
        if path in self._files:
            return self._files[path]
        name, *rest = path.split("/")
        route = self._routes.get((name, len(rest)))
        if route is None or not all(map(_is_number, rest)):
            return _error(HTTPStatus.NOT_FOUND, "There is no such page.")
        try:
            return route(*map(int, rest))
        except IndexError:
            return _error(HTTPStatus.NOT_FOUND, "There is no such image.")
        except (ValueError, OSError, MemoryError) as error:
            text = str(error) or "There is too little memory for this image."
            return _error(HTTPStatus.UNPROCESSABLE_ENTITY, text)

    def _list(self) -> Answer:
        state = self._ranking.state
        return _json(
            {
                "title": escape(self._title),
                "names": [escape(each.name) for each in self._results],
                "measure": state.measure,
                "values": state.values,
                "problems": list(map(escape, state.problems)),
                "order": state.order,
                "done": state.done,
            }
        )

    def _item(self, index: int) -> Answer:
        return _json(self._reader.describe(index)._asdict())

    def _objects(self, index: int, page: int) -> Answer:
        return _json(self._reader.objects(index, page))

    def _tile(self, *place: int) -> Answer:
        tile = self._reader.tile(*place)
        little = tile.astype(tile.dtype.newbyteorder("<"), copy=False)
        size = {"X-Height": str(tile.shape[0]), "X-Width": str(tile.shape[1])}
        return Answer(little.tobytes(), "application/octet-stream", headers=size)

    def _thumbnail(self, index: int) -> Answer:
        levels = self._reader.describe(index).levels
        layer = LAYERS.index("image" if self._results[index].image else "prediction")
        tile = self._reader.tile(index, layer, 0, levels - 1, 0, 0)
        step = -(-max(tile.shape[:2]) // _THUMBNAIL)
        channels = 3 if tile.shape[-1] > 4 else tile.shape[-1]
        picture = pictures.grey(tile[::step, ::step, :channels])
        return Answer(pictures.png_bytes(picture), "image/png")


class _Server(http.server.ThreadingHTTPServer):
    """A server on the loopback interface."""

    def __init__(self, port: int, site: Site, token: str) -> None:
        self.site, self.token = site, token
        super().__init__((_ADDRESS, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Says nothing where the browser has closed a connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers GET; the base class refuses all other methods, as not implemented."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "unetjax", ""

    def do_GET(self) -> None:
        """Answers one request."""
        server = self.server
        assert isinstance(server, _Server)
        host = urllib.parse.urlsplit(f"//{self.headers.get('Host', '')}").hostname
        token, _, path = self.path.removeprefix("/").partition("/")
        if host not in _HOSTS:
            self._send(_error(HTTPStatus.FORBIDDEN, f"Open {_ADDRESS}, no other name."))
        elif not hmac.compare_digest(token.encode(), server.token.encode()):
            self._send(
                _error(HTTPStatus.NOT_FOUND, "Open the address as it was printed.")
            )
        else:
            self._send(server.site.answer(path.partition("?")[0]))

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.media_type)
        self.send_header("Content-Length", str(len(answer.content)))
        for name, value in {**_HEADERS, **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def open_server(
    title: str, results: Sequence[Result], *, port: int = 0
) -> Iterator[tuple[socketserver.BaseServer, str]]:
    """Yields a server of a page, and its address; `serve_forever` answers requests.

    Only programs on this machine reach it, and only with the address, which has a
    secret part: other users of the machine do not know it.

    Args:
      title: Name of the folder.
      results: What to show, at least one.
      port: Number of the port; 0 for a free one.

    Raises:
      ValueError: If the first result cannot be read, or the port is not free.
      OSError: If a file has gone.
    """
    with tempfile.TemporaryDirectory(prefix="unetjax-view-") as scratch:
        reader, ranking = Reader(results, pathlib.Path(scratch)), Ranking(results)
        reader.check(0)  # refuses wrong folders before the page opens
        token = secrets.token_urlsafe(12)
        site = Site(title, results, reader, ranking)
        try:
            server = _Server(port, site, token)
        except (OSError, OverflowError) as error:
            raise ValueError(
                f"port {port} cannot be used ({error}); choose another --port, or "
                "leave it out for a free one."
            ) from error
        with server:
            ranking.start()
            yield server, f"http://{_ADDRESS}:{server.server_address[1]}/{token}/"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def _json(data: object) -> Answer:
    return Answer(json.dumps(data, allow_nan=False).encode(), "application/json")


def _error(status: HTTPStatus, text: str) -> Answer:
    return _json({"error": escape(text)})._replace(status=status)
