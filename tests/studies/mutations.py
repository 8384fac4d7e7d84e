"""Reads mutated files of every kind that is read, under limits of memory and time.

    python -m tests.studies.mutations [--count 20000] [--seed 0]

Each input must be read, with the shape and type that its own header declares, or be
refused by a ValueError or OSError of one sentence that names the file. Anything else is
a violation: another exception, more than 10 s, more than 4 GiB, a crash, other contents
where a checksum protects them. Prints a line for each and one with the counts. An input
with a number and a seed is the same in every run.
"""

import argparse
import collections
import io
import json
import multiprocessing
import os
import pathlib
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import tifffile
from PIL import Image

from tests.studies import headers
from unetjax.evaluation.prediction_record import RECORD, PredictionRecord
from unetjax.files import archives, images, manifests
from unetjax.inference.trained_model import TrainedModel
from unetjax.instances.settings import InstanceSettings
from unetjax.model_io import array_files, model_folder
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet
from unetjax.reporting import environment, records
from unetjax.reporting.records import Record
from unetjax.sweeps import results
from unetjax.training import config as configs
from unetjax.training import run_folder

MEMORY = 4 << 30  # bytes of addresses
SECONDS = 10  # for one input

GREY = np.random.default_rng(0).integers(0, 999, (40, 50), dtype=np.uint16)
BYTES = (GREY // 4).astype(np.uint8)
ARRAYS = {"a/b": np.arange(6.0).reshape(2, 3), "c": np.zeros(4, np.float32)}


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
      name: For the counts.
      file: The name of the file below a folder in which all else is prepared.
      content: A valid one.
      read: Reads it, and raises AssertionError if what it returns is wrong.
      prepare: Writes what else must be in the folder, before the file.
      complete: Changes what depends on the file, after it.
    """

    name: str
    file: str
    content: bytes
    read: Callable[[pathlib.Path], object]
    prepare: Callable[[pathlib.Path], object] = lambda folder: None
    complete: Callable[[pathlib.Path], object] = lambda folder: None


def read_image(path: pathlib.Path) -> None:
    """Reads an image in every way, and compares it with its header."""
    images.read_metadata(path)
    read = images.read_stack(path)
    found = headers.declared(path.read_bytes())
    assert found is None or headers.agrees(found, read.shape, read.dtype), (
        read.shape,
        read.dtype,
        found,
    )
    try:
        labels = images.read_label_stack(path)
    except ValueError as error:  # colours and fractions are no labels
        if str(path) not in str(error):
            raise
    else:
        assert labels.shape == read.shape[:3]


def image_kinds() -> Iterator[Kind]:
    """Image files of every format, and TIFF in its kinds."""

    def tiff(pixels: np.ndarray, **how: Any) -> bytes:
        file = io.BytesIO()
        tifffile.imwrite(file, pixels, **how)
        return file.getvalue()

    def pillow(kind: str, image: Image.Image, **how: Any) -> bytes:
        file = io.BytesIO()
        image.save(file, format=kind, **how)
        return file.getvalue()

    def npy(pixels: np.ndarray) -> bytes:
        file = io.BytesIO()
        np.save(file, pixels)
        return file.getvalue()

    rgb, stack = np.stack([BYTES] * 3, axis=-1), np.stack([GREY] * 3)
    colours = np.arange(768, dtype=np.uint16).reshape(3, 256)
    tiffs = {
        "deflate": tiff(GREY, compression="zlib"),
        "LZW in tiles": tiff(GREY, compression="lzw", tile=(16, 16), predictor=True),
        "BigTIFF": tiff(GREY, bigtiff=True, byteorder=">"),
        "OME": tiff(GREY, ome=True, compression="zlib", rowsperstrip=7),
        "ImageJ": tiff(GREY, imagej=True),
        "ImageJ stack": tiff(stack, imagej=True, metadata={"axes": "ZYX"}),
        "OME stack": tiff(stack, ome=True, metadata={"axes": "TYX"}),
        "pages": tiff(stack, metadata=None),
        "RGB": tiff(rgb, photometric="rgb", compression="packbits"),
        "planes": tiff(
            np.moveaxis(rgb, -1, 0), photometric="rgb", planarconfig="separate"
        ),
        "palette": tiff(BYTES, photometric="palette", colormap=colours),
        "float": tiff(GREY.astype(np.float32), compression="zlib", predictor=True),
        "bits": tiff(BYTES > 100),
        "white": tiff(BYTES, photometric="miniswhite"),
        "LZMA": tiff(GREY, compression="lzma"),
        "JPEG": pillow("TIFF", Image.fromarray(BYTES), compression="jpeg"),
    }
    grey = Image.fromarray(BYTES)
    others = {
        "a.png": pillow("PNG", grey),
        "b.png": pillow("PNG", Image.fromarray(GREY)),
        "c.png": pillow("PNG", Image.fromarray(rgb).convert("P")),
        "d.png": pillow("PNG", Image.fromarray(rgb).convert("RGBA")),
        "e.png": pillow("PNG", grey.convert("1")),
        "a.jpg": pillow("JPEG", grey),
        "b.jpg": pillow("JPEG", Image.fromarray(rgb), progressive=True),
        "a.bmp": pillow("BMP", grey),
        "b.bmp": pillow("BMP", Image.fromarray(rgb)),
        "a.gif": pillow("GIF", grey),
        "a.npy": npy(GREY),
        "b.npy": npy(np.asfortranarray(GREY.astype(">f4"))),
        "c.npy": npy(stack),
        "d.npy": npy(BYTES > 100),
    }
    for name, content in tiffs.items():
        yield Kind(f"TIFF, {name}", "a.tif", content, read_image)
    for name, content in others.items():
        yield Kind(name.split(".")[1].upper(), name, content, read_image)


def read_arrays(path: pathlib.Path) -> None:
    """Reads arrays, which must have the names, shapes and types that are expected."""
    try:
        found = array_files.read(path, ARRAYS)
    except ValueError as error:  # to which callers add the file
        raise ValueError(f"{path}: {error}") from error
    assert {n: (x.shape, x.dtype) for n, x in found.items()} == {
        n: (x.shape, x.dtype) for n, x in ARRAYS.items()
    }


def unpack(path: pathlib.Path) -> None:
    """Unpacks an archive, whose files must have the contents that they had."""
    target = path.with_name("unpacked")
    archives.unpack(path, target)
    found = {each.read_bytes() for each in target.rglob("*") if each.is_file()}
    assert found == set(FILES.values()), "other contents"


FILES = {"set/01/t000.tif": b"abc" * 300, "set/readme": b"hello"}


def other_kinds(scratch: pathlib.Path) -> Iterator[Kind]:
    """Arrays, archives, and JSON files of models, runs, predictions and sweeps."""
    array_files.write(scratch / "w.npz", ARRAYS)
    yield Kind("NPZ", "w.npz", (scratch / "w.npz").read_bytes(), read_arrays)
    with zipfile.ZipFile(scratch / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in FILES.items():
            file.writestr(name, data)
    yield Kind("ZIP", "a.zip", (scratch / "a.zip").read_bytes(), unpack)
    yield from _model_kinds(scratch / "model")
    config = configs.from_dict({})
    text = json.dumps(configs.to_dict(config), indent=2).encode()

    def agree(path: pathlib.Path) -> None:
        run_folder.agree_on_config(
            path, config, holder="a run", original=configs.digest(config)
        )
        run_folder.agree_on_config(path, config, holder="a run")
        assert run_folder.planned_steps(path.parent) == config.num_steps

    yield Kind("config.json", "config.json", text, agree)
    yield Kind(
        "config.json, only file",
        "config.json",
        text,
        lambda path: run_folder.agree_on_config(path, config, holder="a run"),
    )
    entry = {"name": "a", "image": "0" * 64, "mask": "1" * 64}
    parts = {"train": [entry], "validation": [{**entry, "name": "b"}], "test": None}

    def keep(path: pathlib.Path) -> None:
        from unetjax.data.splits import Split

        try:
            run_folder.keep_split(path.parent, Split([], []))
        except ValueError as error:
            if "without" not in str(error):  # the images are not here
                raise

    yield Kind("data.json", "data.json", json.dumps(parts).encode(), keep)
    entries = [Record(1, "train", {"loss": 0.5}), Record(2, "validation", {"iou": 1.0})]
    for each in entries:
        records.append(scratch / "records.jsonl", each)
    content = (scratch / "records.jsonl").read_bytes()

    def read_records(path: pathlib.Path) -> None:
        for record in records.read(path):
            assert isinstance(record.step, int)
        records.truncate_after(path, 1)

    yield Kind("records.jsonl", "records.jsonl", content, read_records)
    folder = scratch / "out"
    folder.mkdir()
    record = PredictionRecord(folder, {"model": "a"})
    record.open(overwrite=False)
    (folder / "a.tif").write_bytes(b"result")
    record.begin("a", "0" * 64, ["a.tif"])
    record.end("a")

    def read_predictions(path: pathlib.Path) -> None:
        (path.parent / "a.tif").write_bytes(b"result")
        found = PredictionRecord(path.parent, {"model": "a"})
        found.check({"a": ["a.tif"]})
        found.open(overwrite=False)
        found.has("a", "0" * 64)

    yield Kind(RECORD, RECORD, (folder / RECORD).read_bytes(), read_predictions)
    starts = json.dumps([{"step": 0, "seed": 1}, {"step": 3, "seed": 1}]).encode()
    yield Kind(
        "environment.json",
        "environment.json",
        starts,
        lambda path: environment.note_start(path.parent, seed=0, step=1),
    )
    outcome = {
        **{"name": "trial", "config": {}, "state": "finished", "step": 2},
        **{"scores": {"mean_iou": 0.5}, "note": "", "test_scores": None},
    }
    yield Kind(
        "outcome.json",
        "trial/outcome.json",
        json.dumps(outcome).encode(),
        lambda path: results.trial_table(results.read_outcomes(path.parents[1])),
        prepare=lambda folder: (folder / "trial" / "config.json").write_bytes(text),
    )


def _model_kinds(folder: pathlib.Path) -> Iterator[Kind]:
    """The files of a model folder, with their manifest, and with one made anew."""
    import jax

    model = UNet(num_classes=2, features=2, depth=1)
    side = model.geometry.input_size(1)
    shapes = jax.eval_shape(
        lambda: model.init(
            jax.random.key(0), np.zeros((1, side, side, 1), np.float32), train=False
        )
    )
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    trained = TrainedModel(
        model=model,
        params=params["params"],
        input_scaling=InputScaling("percentile"),
        class_names=("a", "b"),
        instances=InstanceSettings(),
    )
    model_folder.save_model(folder, trained)

    def copy(to: pathlib.Path) -> None:
        shutil.rmtree(to)
        shutil.copytree(folder, to)

    def load(path: pathlib.Path) -> None:
        found = model_folder.load_model(path.parent)
        assert jax.tree.map(np.shape, found.params) == jax.tree.map(
            np.shape, params["params"]
        )

    def verify(path: pathlib.Path) -> None:
        model_folder.verify(path.parent)
        assert path.read_bytes() == (folder / path.name).read_bytes()

    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        check = load if path.name == manifests.MANIFEST else verify
        yield Kind(f"{path.name} of a model", path.name, content, check, copy)
    for name in (model_folder.MODEL, model_folder.WEIGHTS):
        yield Kind(
            f"{name} with its manifest",
            name,
            (folder / name).read_bytes(),
            load,
            copy,
            manifests.write_manifest,
        )


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Flips bits, writes extreme numbers, cuts, or repeats a part."""
    changed, kind = bytearray(content), rng.integers(4)
    # The structure is at the beginning and, of many formats, at the end.
    ends = min(len(changed), 600)
    place = int(rng.choice([rng.integers(ends), -1 - rng.integers(ends)]))
    place %= len(changed)
    if kind == 0:
        for _ in range(rng.integers(1, 4)):
            changed[place] ^= 1 << int(rng.integers(8))
            place = int(rng.integers(len(changed)))
    elif kind == 1:
        size = int(rng.choice([1, 2, 4, 8]))
        value = int(rng.choice([0, 1, 0x7F, 0xFF]))
        changed[place : place + size] = bytes([value]) * size
    elif kind == 2:
        del changed[place:]
    else:
        changed[place:place] = changed[place : place + int(rng.integers(1, 64))]
    return bytes(changed)


_VALUES = (
    *(None, True, False, 0, -1, 1, 1.5, 1e308, 2**31, 2**64, 10**400, float("nan")),
    *("", "x", "a\n\x1b[2J", "../../x", [], [1], ["x"], {}, {"a": 1}),
)


def mutate_json(content: bytes, rng: np.random.Generator) -> bytes:
    """Replaces, deletes or adds a value anywhere, or nests one deeply."""
    lines = (
        content.decode().splitlines() if content.count(b"\n{") else [content.decode()]
    )
    which = int(rng.integers(len(lines)))
    data = json.loads(lines[which])
    places = list(_places(data))
    where, key = places[int(rng.integers(len(places)))]
    kind = rng.integers(8)
    if kind == 0:
        del where[key]
    elif kind == 1 and isinstance(where, dict):
        where["unknown"] = 1
    elif kind == 2:
        where[key] = "DEEP"
    elif kind == 3:
        data = _VALUES[int(rng.integers(len(_VALUES)))]
    else:
        where[key] = _VALUES[int(rng.integers(len(_VALUES)))]
    sys.set_int_max_str_digits(0)
    lines[which] = json.dumps(data).replace('"DEEP"', "[" * 5000 + "]" * 5000)
    sys.set_int_max_str_digits(4300)
    return ("\n".join(lines) + "\n").encode()


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    """All values in lists and objects, as their owner and key."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in list(items):
        yield data, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def make_input(kind: Kind, seed: int, number: int) -> bytes:
    """Returns the mutated file with a number."""
    rng = np.random.default_rng([seed, number])
    is_json = kind.file.endswith((".json", ".jsonl"))
    if is_json and rng.random() < 0.6:
        return mutate_json(kind.content, rng)
    return mutate(kind.content, rng)


def try_input(kind: Kind, content: bytes, folder: pathlib.Path) -> str:
    """Returns "read", "refused", or what is wrong."""
    shutil.rmtree(folder, ignore_errors=True)
    path = folder / kind.file
    path.parent.mkdir(parents=True)
    kind.prepare(folder)
    path.write_bytes(content)
    kind.complete(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of what was written again
            warnings.simplefilter("error", RuntimeWarning)
            kind.read(path)
    except (ValueError, OSError) as error:
        text = str(error)
        if str(folder) not in text or "\n" in text.strip():
            return f"a message that is not one sentence with the file: {error!r:.300}"
        return "refused"
    except AssertionError as error:
        return f"read wrongly: {str(error)[:200]}"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "read"


def _serve(pipe: Connection, scratch: pathlib.Path, seed: int) -> None:
    """Answers numbers of inputs with the name of their kind and what happened."""
    os.chdir(scratch)
    scratch.joinpath("kinds").mkdir()
    kinds = [*image_kinds(), *other_kinds(scratch / "kinds")]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    pipe.send(None)
    while True:
        number = pipe.recv()
        kind = kinds[number % len(kinds)]
        content = kind.content  # which is read
        if number >= len(kinds):
            content = make_input(kind, seed, number)
        signal.alarm(SECONDS)  # ends the process
        result = try_input(kind, content, scratch / "in")
        signal.alarm(0)
        if number < len(kinds) and result != "read":
            result = f"valid, and {result}"
        pipe.send((kind.name, result))


def main() -> int:
    """Runs the study and returns 1 if there was a violation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    began, process = time.monotonic(), None
    counts, wrong = (
        collections.defaultdict[str, collections.Counter[str]](collections.Counter),
        0,
    )
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory(prefix="mutations.") as scratch:
        for number in range(options.count):
            if process is None:
                pipe, other = context.Pipe()
                folder = pathlib.Path(tempfile.mkdtemp(dir=scratch))
                process = context.Process(
                    target=_serve, args=(other, folder, options.seed), daemon=True
                )
                process.start()
                other.close()
                pipe.recv()
            pipe.send(number)
            try:
                kind, result = pipe.recv()
            except EOFError:
                process.join()
                name = signal.Signals(-process.exitcode).name
                process, kind, result = None, "dead", f"ended by {name}"
            if result not in ("read", "refused"):
                print(f"input {number}, {kind}: {result}", flush=True)
                wrong, result = wrong + 1, "wrong"
            counts[kind][result] += 1
        if process is not None:
            process.kill()
    for kind, results_of in counts.items():
        print(f"{kind}: " + ", ".join(f"{n} {r}" for r, n in results_of.items()))
    total = sum((each for each in counts.values()), collections.Counter[str]())
    text = ", ".join(f"{total[name]} {name}" for name in ("read", "refused", "wrong"))
    minutes = (time.monotonic() - began) / 60
    print(f"seed {options.seed}: {options.count} inputs, {text} ({minutes:.0f} min)")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
