"""Commands in forks of one process that has imported everything: no start-up, any end.

A study starts itself again with the library of `file_actions.c` loaded. Its forks then
run commands of which a chosen file action fails, or kills the process.
"""

import contextlib
import ctypes
import hashlib
import importlib
import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np

from unetjax.data import synthetic
from unetjax.files import folders, images

ROOT = pathlib.Path(__file__).parents[2]
SOURCE = pathlib.Path(__file__).with_name("file_actions.c")
LIMIT = 120  # seconds for one command
MODULES = (  # which commands import, some of them late
    *("experiments.train", "experiments.sweep", "unetjax.cli.main"),
    *("unetjax.cli.predict", "orbax.checkpoint", "skimage.measure", "optuna"),
)


def prepare() -> None:
    """Starts this program again with the library loaded, and imports the commands.

    No device of JAX may be started before a fork, since it has threads.
    """
    library = os.environ.get("LD_PRELOAD", "")
    if "file_actions" not in library:
        compiler = shutil.which("cc")
        if compiler is None or not sys.platform.startswith("linux"):
            sys.exit("this study needs Linux and a C compiler, cc.")
        folder = pathlib.Path(tempfile.mkdtemp(prefix="file_actions."))
        library = str(folder / "file_actions.so")
        how = [compiler, "-O1", "-shared", "-fPIC", "-o", library, str(SOURCE), "-ldl"]
        subprocess.run(how, check=True)
        os.environ |= {
            "LD_PRELOAD": library,
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(folder / "xla"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        }
        status = subprocess.call([sys.executable, *sys.orig_argv[1:]])
        shutil.rmtree(folder)
        sys.exit(status)
    os.chdir(ROOT)
    for module in MODULES:
        importlib.import_module(module)


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
      status: Its exit status; the negative number of the signal that killed it.
      output: Everything it printed.
      num_actions: What it did to the files of its folder, if it was not killed.
    """

    status: int
    output: str
    num_actions: int = 0


class Command(NamedTuple):
    """A command of the project, which may be run any number of times.

    Attributes:
      module: The module whose `main` it is.
      words: Its arguments, in which FOLDER stands for the folder it writes into.
    """

    module: str
    words: tuple[str, ...]

    def call(self, folder: pathlib.Path) -> int:
        """Runs it in this process, and returns its exit status."""
        words = [word.replace("FOLDER", str(folder)) for word in self.words]
        return importlib.import_module(self.module).main(words)


def arm(folder: pathlib.Path | str, action: int, error: int) -> ctypes.CDLL:
    """Lets an action of this process on a folder fail, or kill; see the C source."""
    library = ctypes.CDLL(os.environ["LD_PRELOAD"])
    library.arm(str(folder).encode(), ctypes.c_long(action), error, -1)
    return library


def in_process(
    command: Command, folder: pathlib.Path, *, action: int = 0, error: int = 0
) -> Ended:
    """Runs a command here, of which one file action may fail.

    Args:
      command: The command.
      folder: Its folder.
      action: Number of the action that fails, from 1; 0 for none.
      error: Its error number.
    """
    with tempfile.TemporaryFile() as file, _printing_to(file.fileno()):
        library = arm(folder, action, error)
        try:
            status = command.call(folder)
        except BaseException:
            status = 1
            traceback.print_exc()
        num_actions = library.count()
        arm("", 0, 0)
        sys.stdout.flush()
        sys.stderr.flush()
        file.seek(0)
        text = file.read().decode(errors="replace")
    return Ended(status, text, num_actions)


@contextlib.contextmanager
def _printing_to(descriptor: int) -> Iterator[None]:
    """Redirects what this process prints, also by what it calls, into a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        yield
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        raise
    finally:
        for number, saved in zip((1, 2), before, strict=True):
            os.dup2(saved, number)
            os.close(saved)


def start(
    command: Command, folder: pathlib.Path, *, action: int = 0, error: int = 0
) -> int:
    """Runs a command in a fork, and returns the number of the process.

    Args:
      command: The command.
      folder: Its folder; what it prints goes into the file `output` beside that.
      action: Number of the file action before which it is killed, from 1; 0 for none.
      error: See `in_process`.
    """
    folder.parent.mkdir(exist_ok=True)
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        output = os.open(folder.with_name("output"), flags)
        with _printing_to(output):
            arm(folder, action, error)
            status = command.call(folder)
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        os._exit(status)


def run(
    command: Command,
    folder: pathlib.Path,
    *,
    action: int = 0,
    after: float | None = None,
) -> Ended:
    """Runs a command in a fork, and returns how it ended.

    Args:
      command: The command.
      folder: Its folder.
      action: See `start`.
      after: Seconds after which it is killed, if it runs that long.
    """
    pid, began = start(command, folder, action=action), time.monotonic()
    while True:
        ended, code = os.waitpid(pid, os.WNOHANG)
        if ended:
            text = folder.with_name("output").read_text(errors="replace")
            return Ended(os.waitstatus_to_exitcode(code), text)
        passed = time.monotonic() - began
        if after is not None and passed >= after:
            os.kill(pid, signal.SIGKILL)
            after = None
        if passed > LIMIT:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise TimeoutError(f"{command.words} did not end in {LIMIT} s")
        time.sleep(0.002)


class Server:
    """A fork that runs commands one after the other, and so compiles once.

    To be started before other commands, while this process has no threads.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other,), daemon=True)
        self._process.start()

    def run(self, command: Command, folder: pathlib.Path) -> Ended:
        """Runs a command to its end."""
        self._pipe.send((command, folder))
        if not self._pipe.poll(LIMIT):
            self._process.kill()
            raise TimeoutError(f"{command.words} did not end in {LIMIT} s")
        return self._pipe.recv()


def _serve(pipe: Connection) -> None:
    while True:
        pipe.send(in_process(*pipe.recv()))


def make_commands(folder: pathlib.Path) -> dict[str, Command]:
    """Writes small images, and returns commands by their names.

    The prediction needs the model of the training, in `folder / "train"`.
    """
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for i in range(4):
        cells = synthetic.touching_cells(0, i, size=(40, 48), num_cells=4, radius=6.0)
        low, high = cells.image.min(), cells.image.max()
        grey = (255 * (cells.image - low) / (high - low)).astype(np.uint8)
        images.write_image(folder / "images" / f"{i}.tif", grey)
        images.write_labels(folder / "masks" / f"{i}.tif", cells.instances)
    options = (
        *("num_steps=4", "evaluate_every=2", "log_every=1", "num_pictures=1"),
        *("model.features=2", "model.depth=1", "tile_size=20", "batch_size=1"),
        *("augmentation.elastic_sigma=0", "weight_map.w0=0"),
        *("data.name=folder", "data.validation_fraction=0.25"),
        *(f"data.{name}={folder}/{name}" for name in ("images", "masks")),
    )
    launch = (
        "--config=ml_collections_configs/smoke.py",
        *(f"--config.{option}" for option in options),
        "--workdir=FOLDER",
    )
    model = str(folder / "train" / "model")
    predict = ("predict", model, str(folder / "images"), "--out", "FOLDER")
    rates = "--search=optimizer.learning_rate=1e-4..1e-2:log"
    return {
        "train": Command("experiments.train", launch),
        "predict": Command(
            "unetjax.cli.main", (*predict, "--labels", "--probabilities")
        ),
        "sweep": Command("experiments.sweep", (*launch, "--seeds=2")),
        "search": Command("experiments.sweep", (*launch, rates, "--trials=2")),
    }


def damage(folder: pathlib.Path) -> list[str]:
    """Returns the files under their final names that are not complete.

    Checkpoints are left out: those that are listed are verified when a run resumes.
    """
    found = list[str]()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        is_hidden = any(part.startswith(".") for part in name.parts)
        if is_hidden or not path.is_file() or "checkpoints" in name.parts:
            continue
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".jsonl":  # the last line may be torn
                for line in path.read_text().split("\n")[:-1]:
                    json.loads(line)
            elif path.suffix in (".tif", ".png", ".npy"):
                np.load(path) if path.suffix == ".npy" else images.read_stack(path)
            elif path.suffix == ".npz":
                assert zipfile.ZipFile(path).testzip() is None
            elif path.suffix == ".html":
                assert path.read_text().rstrip().endswith("</html>")
        except Exception as error:
            found.append(f"{name}: {error!r}")
    return found


def left_over(folder: pathlib.Path) -> list[str]:
    """Returns the temporary files that a finished command has left."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if "tmp" in path.name
        or (path.name.startswith(".") and path.name not in (folders.LOCK, ".claims"))
    ]


def digests(folder: pathlib.Path) -> dict[str, str]:
    """Returns SHA-256 of what decides in a finished run, prediction or sweep.

    These are the arrays of models, the digests of the arrays in checkpoints, records,
    tables and results; not the times and versions that some files hold.
    """
    found = dict[str, str]()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        # What was begun twice stands twice in the record of a prediction.
        if "damaged" in name or not path.is_file() or name == "predictions.jsonl":
            continue
        if path.name == "weights.npz":
            with np.load(path) as arrays:
                content = b"".join(
                    f"{key} {arrays[key].dtype} {arrays[key].shape}".encode()
                    + arrays[key].tobytes()
                    for key in sorted(arrays)
                )
        elif path.parts[-2:] == ("digests", "metadata"):
            content = json.dumps(json.loads(path.read_text()), sort_keys=True).encode()
        elif path.suffix in (".jsonl", ".csv", ".tif", ".npy", ".png"):
            content = path.read_bytes()
        else:
            continue
        found[name] = hashlib.sha256(content).hexdigest()
    return found
