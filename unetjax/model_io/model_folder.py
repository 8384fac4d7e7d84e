"""Model folders: a trained network saved as data, with what is needed to apply it.

    model.json     architecture, input scaling, classes, instance settings, provenance
    weights.npz    arrays by parameter path
    README.md      a description, and how to use the model
    manifest.json  SHA-256 of each file

A folder holds JSON and arrays only; loading it executes nothing.
"""

import dataclasses
import functools
import importlib.metadata
import json
import os
import pathlib
import shutil
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import PyTree

from unetjax import settings
from unetjax.files import archives, folders, json_files, manifests, names
from unetjax.inference.trained_model import Provenance, TrainedModel
from unetjax.instances.settings import InstanceSettings
from unetjax.model_io import array_files
from unetjax.network import initializers
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet, num_input_channels
from unetjax.reporting.console import number

MODEL, WEIGHTS, README = "model.json", "weights.npz", "README.md"

_CONTENTS = (MODEL, WEIGHTS, README)  # of a manifest
_FILES = {*_CONTENTS, manifests.MANIFEST}
_FORMAT = 2  # raised with every change that older code would misread; 1 is read as well

_MAX_CHANNELS = 2**16  # of images; far beyond what is of use

_SCORES = {  # of the provenance, with titles in the README
    "test_scores": "Scores on the test images, which took no part in any choice:",
    "scores": "Scores on the validation images, which chose the model (optimistic):",
}
_README = """# {name}

A U-Net for images of any size, trained with unetjax {version}: {features} features,
depth {depth}, {padding} padding.

{lines}

The file model.json has all details. To segment images:

    unetjax predict {name} image.tif --out results

or in Python:

    import unetjax
    model = unetjax.load_model("{name}")
    probs, label, instances = model.segment(image)

where image is [H, W] or [H, W, C], grey values as stored; probs is the probability of
every class at every pixel, label the most probable class, instances the numbered cells.
"""


@dataclass(frozen=True)
class _ModelFile:
    """The fields of model.json."""

    format: int
    unetjax: str
    architecture: UNet
    channels: int
    input_scaling: InputScaling
    class_names: tuple[str, ...]
    instances: InstanceSettings
    selected_channels: tuple[str, ...]
    object_diameter: float | None
    provenance: Provenance

    def __post_init__(self) -> None:
        """Validates all fields."""
        settings.check_fields(self)
        settings.check_range(
            "channels", self.channels, at_least=1, at_most=_MAX_CHANNELS
        )
        for field in ("class_names", "selected_channels"):
            for name in getattr(self, field):
                if names.escape(name) != name or len(name.splitlines()) > 1:
                    raise ValueError(
                        f"{field} must not have control characters, got {name!r}."
                    )


def save_model(folder: str | os.PathLike[str], trained: TrainedModel) -> None:
    """Writes a model folder, complete or not at all.

    An existing model folder of the same name is replaced if it was not changed since it
    was written.

    Args:
      folder: Name of the folder; absent, empty, or a model folder.
      trained: What to write.

    Raises:
      FileExistsError: If the folder holds anything that `save_model` has not written.
      ValueError: If the parameters do not fit the network, or the provenance is not
        JSON data; nothing is written then.
    """
    folder = pathlib.Path(folder).resolve()  # a link stays a link
    recover(folder)
    fields = settings.to_dict(_describe(trained))
    try:
        text = json.dumps(fields, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"provenance must be JSON data without NaN: {error}; convert it."
        ) from error
    variables = {"params": trained.params, **trained.model_state}
    arrays = _flatten(jax.tree.map(functools.partial(np.asarray, order="C"), variables))
    expected = _expected(trained.model, fields["channels"])
    problem = array_files.difference(arrays, expected)
    if problem:
        raise ValueError(
            f"the arrays do not fit the architecture: {problem}; use the model that "
            "they were trained with."
        )
    _refuse_others(folder)
    new, old = _temporaries(folder)
    try:
        new.mkdir(parents=True)
        (new / MODEL).write_text(text, encoding="utf-8")
        (new / README).write_text(_readme(fields, folder.name), encoding="utf-8")
        array_files.write(new / WEIGHTS, arrays)
        manifests.write_manifest(new)
        folders.sync_files(new)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        folders.sync(folder.parent)
        _discard(old)
    finally:
        _discard(new)


def recover(folder: str | os.PathLike[str]) -> None:
    """Undoes a `save_model` of this folder whose process was killed."""
    folder = pathlib.Path(folder).resolve()
    new, old = _temporaries(folder)
    if old.exists() and not folder.exists():
        old.rename(folder)
    for path in (new, old):
        _discard(path)


def verify(folder: str | os.PathLike[str]) -> None:
    """Checks that the files of a model folder are those that were written.

    Raises:
      CorruptFilesError: If they are not.
    """
    manifests.verify_manifest(folder, _CONTENTS)


def load_model(folder: str | os.PathLike[str]) -> TrainedModel:
    """Returns the trained network of a model folder, ready to predict and segment.

    Args:
      folder: A folder that `save_model` has written, or a run folder that holds one
        named `model`.

    Raises:
      FileNotFoundError: If it is no model folder.
      ValueError: If a file is missing, damaged, changed, or of a later version.
    """
    folder = _locate(folder)
    if not (folder / MODEL).exists() and not (folder / manifests.MANIFEST).exists():
        if (folder / "config.json").exists() and (folder / "data.json").exists():
            raise FileNotFoundError(
                f"{folder} is the folder of a training that has not stored a model "
                "yet; resume it by the command that began it."
            )
        raise FileNotFoundError(
            f"{folder} is not a model folder, it has no {MODEL}; name another folder."
        )
    verify(folder)
    trained, channels = _read(folder / MODEL)
    try:
        arrays = array_files.read(folder / WEIGHTS, _expected(trained.model, channels))
    except ValueError as error:
        raise ValueError(
            f"{folder / WEIGHTS} cannot be used: {str(error).rstrip('.')}; use the "
            "arrays that were saved with it."
        ) from error
    leaves = {name: jnp.asarray(array) for name, array in arrays.items()}
    variables = traverse_util.unflatten_dict(leaves, sep="/")
    params = variables.pop("params")
    return dataclasses.replace(trained, params=params, model_state=variables)


def fingerprint(folder: str | os.PathLike[str]) -> str:
    """Returns a hash of the files of a model folder, see `load_model`."""
    return archives.sha256(_locate(folder) / manifests.MANIFEST)


def read_provenance(path: str | os.PathLike[str]) -> Provenance:
    """Returns the provenance of a model from its `model.json`, without its arrays.

    Raises:
      ValueError: If the file cannot be used.
    """
    return _read(pathlib.Path(path))[0].provenance


def _locate(folder: str | os.PathLike[str]) -> pathlib.Path:
    """Returns a model folder, or that in a run folder."""
    folder = pathlib.Path(folder)
    if (folder / "model" / MODEL).exists() and not (folder / MODEL).exists():
        return folder / "model"
    return folder


def _describe(trained: TrainedModel) -> _ModelFile:
    model = trained.model
    return _ModelFile(
        format=_FORMAT,
        unetjax=importlib.metadata.version("unetjax"),
        architecture=model.clone(dtype=jnp.dtype(model.dtype).name),
        channels=num_input_channels(trained.params),
        input_scaling=trained.input_scaling,
        class_names=trained.class_names,
        instances=trained.instances,
        selected_channels=trained.selected_channels,
        object_diameter=trained.object_diameter,
        provenance=trained.provenance,
    )


def _read(path: pathlib.Path) -> tuple[TrainedModel, int]:
    """The model that a model.json describes, without variables, and its channels."""
    try:
        fields = _with_new_names(json_files.read(path))
        missing = settings.field_types(_ModelFile).keys() - fields.keys()
        if missing:
            raise ValueError(f"it has no {', '.join(sorted(missing))}.")
        file = settings.build(_ModelFile, fields, where=MODEL)
        trained = TrainedModel(
            file.architecture,
            params={},
            input_scaling=file.input_scaling,
            class_names=file.class_names,
            instances=file.instances,
            selected_channels=file.selected_channels,
            object_diameter=file.object_diameter,
            provenance=file.provenance,
        )
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be used: {error}") from error
    return trained, file.channels


def _with_new_names(fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """The fields of model.json in the format and the names of this version.

    The facts in `about` of format 1 were free to choose: those that have no field of
    their own become notes.
    """
    if not isinstance(fields, dict):
        raise ValueError(f"it must be a section of fields, got {fields!r:.60}.")
    fields = dict(fields)
    version = fields.get("format")
    if isinstance(version, bool) or version not in (1, _FORMAT):
        raise ValueError(
            f"its format is {version!r}, this version of unetjax reads 1 to {_FORMAT}; "
            "update unetjax."
        )
    # Not known to earlier versions.
    fields.setdefault("object_diameter", None)
    fields.setdefault("selected_channels", [])
    if version == 1:
        about = fields.pop("about", {})
        if not isinstance(about, dict):
            raise ValueError(f"about must be a section of facts, got {about!r}.")
        about = dict(about)
        unknown = sorted(about.keys() - settings.field_types(Provenance).keys())
        notes = "; ".join(f"{name}: {about.pop(name)}" for name in unknown)
        fields |= {
            "format": _FORMAT,
            "input_scaling": {
                "method": fields.pop("scaling", None),
                # The oldest folders have none.
                "clip": fields.pop("clip", [None, None]),
            },
            "provenance": {**about, "notes": notes},
        }
    architecture = fields.get("architecture")
    if isinstance(architecture, dict):
        rule = architecture.get("kernel_init")
        if isinstance(rule, str):
            new = initializers.RENAMED.get(rule, rule)
            fields["architecture"] = {**architecture, "kernel_init": new}
    return fields


def _flatten(variables: PyTree) -> dict[str, Any]:
    """The leaves by their path, as `params/encoder_0/conv_0/kernel`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }


def _expected(model: UNet, channels: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes and types of the arrays of an architecture, by path."""
    side = model.geometry.input_size(1)

    def init() -> PyTree:
        image = jnp.zeros((1, side, side, channels))
        return model.init(jax.random.key(0), image, train=False)

    return _flatten(jax.eval_shape(init))


def _refuse_others(folder: pathlib.Path) -> None:
    """Refuses to replace anything but an empty folder or a model folder."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; name a new folder.")
    names = {path.name for path in folder.iterdir()}
    others = sorted(names - _FILES)
    if others:
        raise FileExistsError(
            f"{folder} holds {others[0]}, which is not part of a model folder; nothing "
            "was touched: name a new or empty folder."
        )
    if names:
        try:
            verify(folder)
        except manifests.CorruptFilesError as error:
            raise FileExistsError(
                f"{folder} was changed since it was written ({error}) and is not "
                "replaced; move it away or name a new folder."
            ) from error


def _temporaries(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """The names of a model folder while it is written and while it is replaced."""
    return (
        folder.with_name(f".{folder.name}.new"),
        folder.with_name(f".{folder.name}.old"),
    )


def _discard(folder: pathlib.Path) -> None:
    """Deletes a folder that `save_model` has made, if there is one."""
    if folder.exists():
        shutil.rmtree(folder)


def _readme(fields: dict[str, Any], name: str) -> str:
    """The text of the README of a model folder."""
    architecture, origin = fields["architecture"], fields["provenance"]
    classes = fields["class_names"] or architecture["num_classes"]
    chosen = fields["selected_channels"]
    facts = {
        "classes": classes if isinstance(classes, int) else ", ".join(classes),
        "channels": fields["channels"],
        **({"of the files": ", ".join(chosen)} if chosen else {}),
        "input scaling": fields["input_scaling"]["method"],
        **{key: x for key, x in origin.items() if x and not isinstance(x, dict)},
    }
    lines = [f"- {key}: {value}" for key, value in facts.items()]
    for field, title in _SCORES.items():
        scores = [
            f"- {k}: {number(x)}" for k, x in origin[field].items() if x is not None
        ]
        lines += ["", title, "", *scores] if scores else []
    return _README.format(
        name=name, version=fields["unetjax"], lines="\n".join(lines), **architecture
    )
