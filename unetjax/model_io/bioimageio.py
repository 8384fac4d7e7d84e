"""Packages for bioimage.io: a model with test data and a description of its inputs.

A package is a zip of an ONNX model, one input with its output, and a description that
says which images the model takes and how these are scaled (specification 0.5).

The input scaling is described, not part of the graph: it is measured on the whole
image, whereas a graph sees one tile, so that tiles scaled each for itself would not
fit together.

Tools feed tiles that overlap, and crop a rim of the output, the halo, which must be
alike on all sides. The graph therefore returns as many pixels as it gets, zeros in
the rim that `VALID` networks lose. Sides and halo are multiples of the period, so
that tiles of any size lie as those of `predict` and give the same pixels.
"""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Shaped

from unetjax.data.checks import counted
from unetjax.files import folders
from unetjax.inference.trained_model import TrainedModel
from unetjax.model_io import onnx
from unetjax.model_io.export import Exported, check_difference, contract
from unetjax.network import input_scaling, norms
from unetjax.network.input_scaling import PERCENTILES, Clip, InputScaling
from unetjax.network.unet import num_input_channels
from unetjax.reporting.console import number

SUFFIX = ".zip"

_FORMAT = "0.5.12"
_INTEGERS = ("uint8", "uint16", "uint32", "int8", "int16", "int32")

_LEAST_OUTPUT = 128  # pixels without the halo: side of a tile of the verification
# Far below the range of grey values; tools divide by this range plus this number.
_EPSILON = 1e-9
_NAME = re.compile(r"[^\w+\- ()]", re.ASCII)  # what the name of a model must not have
_PAPER = (
    "Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image "
    "Segmentation. MICCAI 2015.",
    "10.1007/978-3-319-24574-4_28",
)
_README = """# {name}

{description} Trained with unetjax.

## Input and output

Images of {channels} with {values}, not scaled before: their scaling is part of
the description. Sides of tiles are {least} + {step} n pixels. The outer {halo} pixels
of an output see no image beyond the tile: tools crop them (halo) and let tiles overlap.
The output has one channel each for: {outputs}. All values lie in [0, 1].
{caveat}
## Validation

{scores}

Score the model on images that took no part in its training, for instance by
`unetjax evaluate PREDICTIONS TRUTH`.
"""
_CAVEAT = """
Of an image in which fewer than 0.2 percent of the pixels are brighter than the rest,
both percentiles are equal. unetjax then scales by the largest value; other tools do
not, and their result is of no use there.
"""


@dataclass(frozen=True)
class Publication:
    """What bioimage.io wants to know of a model besides its files.

    Attributes:
      authors: Names of those who made the model, at least one.
      license: Identifier of the licence in the list of SPDX, such as `CC-BY-4.0`.
      citations: DOIs of what users should cite, besides the paper of the U-Net.

    Raises:
      ValueError: On construction, if authors or licence are missing.
    """

    authors: tuple[str, ...]
    license: str
    citations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses what the specification would refuse, before anything is computed."""
        if not self.authors or not all(each.strip() for each in self.authors):
            raise ValueError(
                "a bioimage.io package needs the names of its authors; give "
                "--author 'First Last', repeated for each."
            )
        if not self.license:
            raise ValueError(
                "a bioimage.io package needs a licence; give its SPDX identifier, "
                "such as --license CC-BY-4.0."
            )


def export(
    trained: TrainedModel, path: str | os.PathLike[str], about: Publication
) -> Exported:
    """Writes a bioimage.io package, after it was validated and run.

    The package is run by `bioimageio.core` in tiles, on an image larger than one tile,
    and compared with `predict` of the model. Its input are grey values as stored; its
    output are the probabilities of the classes, followed by the maps of the target.

    Args:
      trained: The model.
      path: The new file, which ends in `.zip`.
      about: Authors, licence and citations.

    Raises:
      FileExistsError: If the file exists.
      ModuleNotFoundError: If bioimageio.core, onnxruntime or onnx are not installed.
      ValueError: If the ending is another, if the input scaling cannot be described,
        if the package is not valid, or if results differ by more than 0.001; no file
        is written then.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() != SUFFIX:
        raise ValueError(
            f"{path} must end in {SUFFIX}: a bioimage.io package is a zip archive."
        )
    folders.check_new(path)
    _check_installed()
    # The graph is float32, whatever the precision of the network.
    trained = dataclasses.replace(trained, model=trained.model.clone(dtype="float32"))
    with tempfile.TemporaryDirectory() as temporary, _quiet():
        folder = pathlib.Path(temporary)
        fields = describe(trained, path.name.partition(".")[0], about)
        _write_files(trained, folder, fields)
        package = _pack(fields, folder, path)
        found, expected = _run_tiled(trained, package)
        difference = check_difference(path, "bioimageio.core", found, expected)
        with folders.write_atomically(path) as new:
            new.write_bytes(package.read_bytes())
    return Exported("bioimageio.core", difference, fields["config"]["unetjax"])


def describe(trained: TrainedModel, name: str, about: Publication) -> dict[str, Any]:
    """Returns the description of a model, in the terms of the specification.

    Args:
      trained: The model.
      name: What to call it.
      about: Authors, licence and citations.

    Raises:
      ValueError: If the input scaling or the normalisation cannot be described.
    """
    norm, facts = trained.model.norm, contract(trained, tile_size=None)
    if norm not in norms.KEEPS_TILES_EXACT:
        raise ValueError(
            f"norm {norm!r} takes its statistics over the tile, and tools for "
            "bioimage.io choose the tiles; export to .onnx instead."
        )
    halo, period = _halo(trained), trained.model.geometry.period
    sizes = facts | {
        "tile_sizes": f"{2 * halo + period} + {period} n pixels",
        "lost_pixels": 0,
    }
    channels = _channel_names(trained)
    return {
        "type": "model",
        "format_version": _FORMAT,
        "name": f"U-Net {_NAME.sub(' ', name).strip()}"[:64],
        "description": f"Segments images of {counted(len(channels), 'channel')} into "
        f"{', '.join(facts['outputs'])} by a U-Net.",
        "authors": [{"name": each} for each in about.authors],
        "license": about.license,
        "cite": [
            {"text": _PAPER[0], "doi": _PAPER[1]},
            *({"text": doi, "doi": doi} for doi in about.citations),
        ],
        "tags": ["unet", "segmentation", "2d", "jax", "unetjax"],
        "documentation": {"source": "README.md"},
        "inputs": [
            {
                "id": "image",
                "axes": _axes(
                    channels,
                    lambda _: {"size": {"min": 2 * halo + period, "step": period}},
                ),
                "data": {"type": _data_type(trained)},
                "pad": {"mode": "reflect"},  # as `predict` mirrors
                "preprocessing": preprocessing(
                    trained.input_scaling, _data_type(trained)
                ),
                "test_tensor": {"source": "test_input.npy"},
            }
        ],
        "outputs": [
            {
                "id": "probabilities",
                "axes": _axes(
                    facts["outputs"],
                    lambda axis: {
                        "size": {"tensor_id": "image", "axis_id": axis},
                        **({"halo": halo} if halo else {}),
                    },
                ),
                "data": {"type": "float32", "range": [0, 1]},
                "test_tensor": {"source": "test_output.npy"},
            }
        ],
        "weights": {"onnx": {"source": "weights.onnx", "opset_version": onnx.OPSET}},
        "config": {"unetjax": sizes},
    }


def preprocessing(scaling: InputScaling, data_type: str) -> list[dict[str, Any]]:
    """Returns the steps of the specification that scale as `input_scaling.scale`.

    Args:
      scaling: Method and bounds.
      data_type: Type of the grey values.

    Raises:
      ValueError: If bounds are followed by a method that measures the image: tools
        measure it before any step.

    Example:
      >>> preprocessing(InputScaling("unit"), "uint8")[0]["kwargs"]["gain"] * 255
      1.0
    """
    measured = scaling.method in ("minmax", "percentile", "zscore")
    if measured and scaling.clip != (None, None):
        raise ValueError(
            f"the input scaling {scaling.method!r} after clipping to {scaling.clip} "
            "cannot be described for bioimage.io, whose tools measure an image before "
            "it is clipped; export to .onnx instead."
        )
    axes = {"axes": ["y", "x"], "eps": _EPSILON}
    low, high = (0, 100) if scaling.method == "minmax" else PERCENTILES
    steps = {
        "none": [],
        "unit": [{"id": "scale_linear", "kwargs": {"gain": 1 / _largest(data_type)}}],
        "zscore": [{"id": "zero_mean_unit_variance", "kwargs": axes}],
    }.get(
        scaling.method,
        [
            {
                "id": "scale_range",
                "kwargs": {**axes, "min_percentile": low, "max_percentile": high},
            }
        ],
    )
    bounds = [] if scaling.clip == (None, None) else [_clip(scaling.clip)]
    # Or else tools end with a conversion to the type of the grey values.
    return [*bounds, *steps, {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}]


def _clip(clip: Clip) -> dict[str, Any]:
    """Returns the step that applies bounds; both must be numbers."""
    limits = np.finfo(np.float32)
    bounds = (
        float(limit if bound is None else bound)
        for bound, limit in zip(clip, (limits.min, limits.max), strict=True)
    )
    return {"id": "clip", "kwargs": dict(zip(("min", "max"), bounds, strict=True))}


def _largest(data_type: str) -> int:
    """Returns the grey value that `unit` makes 1."""
    dtype = np.dtype(data_type)
    return np.iinfo(dtype).max if dtype.kind in "ui" else 1


def _data_type(trained: TrainedModel) -> str:
    """Returns the type of grey values that the package takes.

    Methods that measure the image take any; tools convert to the type given here.
    """
    stored = trained.provenance.image_dtype
    is_unit = trained.input_scaling.method == "unit"
    return stored if is_unit and stored in _INTEGERS else "float32"


def _channel_names(trained: TrainedModel) -> list[str]:
    count = num_input_channels(trained.params)
    names = trained.selected_channels or [f"channel {i}" for i in range(count)]
    return list(names)


def _halo(trained: TrainedModel) -> int:
    """Returns the least multiple of the period that no margin exceeds, in pixels."""
    geometry = trained.model.geometry
    return -(-geometry.margin // geometry.period) * geometry.period


def _axes(
    names: Sequence[str], size: Callable[[str], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Returns the axes of images, of which `size` gives the size of y and of x."""
    return [
        {"type": "batch"},
        {"type": "channel", "channel_names": list(names)},
        *({"type": "space", "id": axis, **size(axis)} for axis in "yx"),
    ]


def _write_files(
    trained: TrainedModel, folder: pathlib.Path, fields: Mapping[str, Any]
) -> None:
    """Writes what the description names: graph, images and documentation."""
    facts = fields["config"]["unetjax"]
    data = onnx.to_onnx(
        trained, activated=True, same_size=True, metadata={"unetjax": json.dumps(facts)}
    )
    (folder / "weights.onnx").write_bytes(data)
    image = _test_image(trained, (_tile(trained), _tile(trained)))
    scaled = input_scaling.scale(image, trained.input_scaling)
    _, run = onnx.load_runtime(data)
    np.save(folder / "test_input.npy", _channels_first(image))
    np.save(folder / "test_output.npy", _channels_first(run(scaled[np.newaxis])[0]))
    (folder / "README.md").write_text(_readme(trained, fields), encoding="utf-8")


def _tile(trained: TrainedModel) -> int:
    """Returns the side of the tiles with which a package is verified, in pixels."""
    period = trained.model.geometry.period
    return 2 * _halo(trained) + -(-_LEAST_OUTPUT // period) * period


def _channels_first(
    image: Shaped[np.ndarray, "H W C"],
) -> Shaped[np.ndarray, "1 C H W"]:
    return np.ascontiguousarray(np.moveaxis(image, -1, 0))[np.newaxis]


def _test_image(
    trained: TrainedModel, size: tuple[int, int]
) -> Shaped[np.ndarray, "H W C"]:
    """Returns noisy squares that fill the range of the grey values."""
    generator = np.random.default_rng(0)
    coarse = generator.random([-(-side // 8) for side in size])
    squares = np.kron(coarse, np.ones((8, 8)))[: size[0], : size[1], np.newaxis]
    noise = generator.random((*size, num_input_channels(trained.params)))
    dtype = np.dtype(_data_type(trained))
    return ((0.7 * squares + 0.3 * noise) * _largest(dtype.name)).astype(dtype)


def _pack(
    fields: dict[str, Any], folder: pathlib.Path, path: pathlib.Path
) -> pathlib.Path:
    """Validates a description and writes the package into its folder.

    Raises:
      ValueError: If the specification does not accept the description.
    """
    from bioimageio import spec
    from bioimageio.spec.model import v0_5

    context = spec.ValidationContext(root=folder, perform_io_checks=True)
    described = spec.build_description(fields, context=context)
    if not isinstance(described, v0_5.ModelDescr):
        found = described.validation_summary
        problems = [
            f"{'.'.join(map(str, error.loc))}: {error.msg}"
            for detail in found.details
            for error in detail.errors
        ]
        raise ValueError(
            f"{path} was not written: bioimageio.spec does not accept "
            f"{'; '.join(problems)}."
        )
    return spec.save_bioimageio_package(described, output_path=folder / "package.zip")


def _run_tiled(
    trained: TrainedModel, package: pathlib.Path
) -> tuple[Float[np.ndarray, "H W K"], Float[np.ndarray, "H W K"]]:
    """Returns the outputs of a package and of its model, for an image of many tiles."""
    from bioimageio import core, spec

    # A multiple of the period: the last tile lies on one as well, as do all others.
    side = _tile(trained)
    image = _test_image(trained, (side + trained.model.geometry.period, side))
    described = spec.load_model_description(package, perform_io_checks=True)
    found = core.predict(
        model=described,
        inputs={"image": _channels_first(image)},
        input_block_shape={
            "image": {"batch": 1, "channel": image.shape[-1], "y": side, "x": side}
        },
    )
    with jax.default_matmul_precision("highest"):
        expected = trained.predict(image, maps=True)
    return np.moveaxis(
        np.asarray(found.members["probabilities"].data)[0], 0, -1
    ), expected


def _readme(trained: TrainedModel, fields: Mapping[str, Any]) -> str:
    """Returns the documentation of a package."""
    facts, provenance = fields["config"]["unetjax"], trained.provenance
    data_type = _data_type(trained)
    is_unit = trained.input_scaling.method == "unit"
    scores = provenance.test_scores or provenance.scores
    kind = "test images" if provenance.test_scores else "validation images"
    known = {name: value for name, value in scores.items() if value is not None}
    lines = [f"- {name}: {number(value)}" for name, value in known.items()]
    return _README.format(
        name=fields["name"],
        description=fields["description"],
        channels=counted(facts["channels"], "channel"),
        values=f"{data_type} values"
        if data_type != "float32"
        else "values from 0 to 1"
        if is_unit
        else "values of any type",
        halo=_halo(trained),
        least=2 * _halo(trained) + trained.model.geometry.period,
        step=trained.model.geometry.period,
        outputs=", ".join(facts["outputs"]),
        caveat=_CAVEAT if trained.input_scaling.method == "percentile" else "",
        scores="\n".join([f"Scores on the {kind}:", "", *lines])
        if lines
        else "No scores are known.",
    )


def _check_installed() -> None:
    try:
        import bioimageio.core  # noqa: F401
        import onnxruntime  # noqa: F401  by which bioimageio.core runs the graph
    except ImportError as error:
        raise ModuleNotFoundError(
            "a bioimage.io package needs bioimageio.core and onnxruntime, which are "
            f"not installed ({error}): pip install 'unetjax[bioimageio]'."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides what bioimageio logs, and its progress bars."""
    from loguru import logger

    shown = io.StringIO()
    logger.disable("bioimageio")
    try:
        with contextlib.redirect_stderr(shown):
            yield
    finally:
        logger.enable("bioimageio")
