"""unetjax view: look through images and their segmentation in a browser."""

import argparse
import os
import signal
import sys

from unetjax.cli.command import ArgumentParser, path
from unetjax.files.names import escape

_DESCRIPTION = """\
Open a page in the browser to look through images, their predictions, true masks,
probabilities and measurements, the worst first. The page is served to this machine
only, and nothing is written. Ctrl-C ends it.
"""
_EXAMPLES = """\
examples:
  unetjax view out/
  unetjax view out/ --masks truth/
  unetjax view out/ --images images/ --port 8000 --no-browser
"""


def add_parser(commands: "argparse._SubParsersAction[ArgumentParser]") -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "view",
        help="look through images and predictions in a browser",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "out",
        type=path,
        help="folder that unetjax predict wrote, or the folder of a run for its "
        "pictures",
    )
    parser.add_argument(
        "--images",
        type=path,
        metavar="FOLDER",
        help="folder of the images, or one file (default: where predict read them)",
    )
    parser.add_argument(
        "--masks",
        type=path,
        metavar="FOLDER",
        help="folder of true masks; the worst scores come first",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=0,
        metavar="NUMBER",
        help="port of the page on this machine (default: a free one)",
    )
    parser.add_argument(
        "--no-browser",
        action="store_true",
        help="print the address and open no browser",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serves the page until Ctrl-C."""
    from unetjax import signals
    from unetjax.data.checks import counted
    from unetjax.viewer import results, server

    found = results.find(options.out, images=options.images, masks=options.masks)
    for warning in found.warnings:
        print(f"warning: {escape(warning)}")
    title = options.out.resolve().name
    with server.open_server(title, found.results, port=options.port) as (site, address):
        print(f"{counted(len(found.results), 'image')}: {address}")
        print("Ctrl-C ends", flush=True)
        if not options.no_browser:
            _open_browser(address)
        try:
            site.serve_forever()
        except signals.StoppedError as stop:
            if stop.signum != signal.SIGINT:
                raise
    return 0


def _open_browser(address: str) -> None:
    """Opens the browser of the desktop; one of the terminal would cover the address."""
    has_desktop = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if not has_desktop:
        return
    import threading
    import webbrowser

    # Some browsers return only when they are closed.
    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(
            f"must be a number from 0 to 65535, got {text!r}"
        )
    return int(text)
