"""Model folders: a trained network saved as data, with what is needed to apply it.

    model.json     architecture, input scaling, classes, instance settings, provenance
    weights.npz    arrays by parameter path
    README.md      a description, and how to use the model
    manifest.json  SHA-256 of each file

A folder holds JSON and arrays only; loading it executes nothing.
"""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import shutil
import zipfile
from collections.abc import Collection, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import PyTree, Shaped

from unetjax.files import manifests
from unetjax.inference.trained_model import Provenance, TrainedModel
from unetjax.instances.settings import InstanceSettings
from unetjax.network import initializers
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet, num_input_channels
from unetjax.settings import suggest

MODEL, WEIGHTS, README = "model.json", "weights.npz", "README.md"

_FILES = {MODEL, WEIGHTS, README, manifests.MANIFEST}
_FORMAT = 2  # raised with every change that older code would misread; 1 is read as well
_FIELDS = {  # of model.json
    "format": int,
    "unetjax": str,
    "architecture": dict,
    "channels": int,
    "input_scaling": dict,
    "class_names": list,
    "instances": dict,
    "provenance": dict,
}
_ARCHITECTURE = {f.name for f in dataclasses.fields(UNet)} - {"parent", "name"}

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
    fields, text = _to_json(trained)
    variables = {"params": trained.params, **trained.model_state}
    arrays = _flatten(jax.tree.map(np.asarray, variables))
    _check_arrays(arrays, trained.model, fields["channels"])
    _refuse_others(folder)
    new, old = (folder.with_name(f".{folder.name}.{end}") for end in ("new", "old"))
    _discard(new)  # left by a process that was killed
    try:
        new.mkdir(parents=True)
        (new / MODEL).write_text(text, encoding="utf-8")
        (new / README).write_text(_readme(fields, folder.name), encoding="utf-8")
        np.savez(new / WEIGHTS, allow_pickle=False, **arrays)
        manifests.write_manifest(new)
        if folder.exists():
            _discard(old)
            folder.rename(old)
        new.rename(folder)
        _discard(old)
    finally:
        _discard(new)


def load_model(folder: str | os.PathLike[str]) -> TrainedModel:
    """Returns the trained network of a model folder, ready to predict and segment.

    Args:
      folder: A folder that `save_model` has written, or a run folder that holds one
        named `model`.

    Raises:
      FileNotFoundError: If it is no model folder.
      ValueError: If a file is missing, damaged, changed, or of a later version.
    """
    folder = pathlib.Path(folder)
    if (folder / "model" / MODEL).exists() and not (folder / MODEL).exists():
        folder = folder / "model"
    _refuse_no_model(folder)
    manifests.verify_manifest(folder)
    try:
        text = (folder / MODEL).read_text(encoding="utf-8")
        channels, fields = _from_json(json.loads(text))
        model = fields["model"]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{folder / MODEL} cannot be used: {error}") from error
    try:
        with np.load(folder / WEIGHTS, allow_pickle=False) as file:
            arrays = dict(file)
        _check_arrays(arrays, model, channels)
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise ValueError(f"{folder / WEIGHTS} cannot be used: {error}") from error
    leaves = {name: jnp.asarray(array) for name, array in arrays.items()}
    variables = traverse_util.unflatten_dict(leaves, sep="/")
    params = variables.pop("params")
    return TrainedModel(params=params, model_state=variables, **fields)


def read_provenance(path: str | os.PathLike[str]) -> Provenance:
    """Returns the provenance of a model from its `model.json`, without its arrays.

    Raises:
      ValueError: If the file cannot be used.
    """
    text = pathlib.Path(path).read_text(encoding="utf-8")
    return _from_json(json.loads(text))[1]["provenance"]


def _to_json(trained: TrainedModel) -> tuple[dict[str, Any], str]:
    """The fields of model.json and its text, checked to be loadable."""
    model = trained.model
    architecture = {name: getattr(model, name) for name in sorted(_ARCHITECTURE)}
    fields = {
        "format": _FORMAT,
        "unetjax": importlib.metadata.version("unetjax"),
        "architecture": {**architecture, "dtype": jnp.dtype(model.dtype).name},
        "channels": num_input_channels(trained.params),
        "input_scaling": vars(trained.input_scaling),
        "class_names": trained.class_names,
        "instances": vars(trained.instances),
        "provenance": vars(trained.provenance),
    }
    try:
        text = json.dumps(fields, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"provenance must be JSON data without NaN: {error}; convert it."
        ) from error
    _from_json(json.loads(text))
    return fields, text


def _from_json(fields: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The number of channels, and all fields of `TrainedModel` but the variables."""
    version = dict(fields).get("format")
    if version not in (1, _FORMAT):
        raise ValueError(
            f"its format is {version!r}, this version of unetjax reads 1 to {_FORMAT}; "
            "update unetjax."
        )
    if version == 1:
        fields = _from_format_1(fields)
    _refuse_unknown(fields, _FIELDS, where="it")
    for name, kind in _FIELDS.items():
        if not isinstance(fields.get(name), kind):
            raise ValueError(
                f"{name} must be of type {kind.__name__}, got {fields.get(name)!r}; "
                "download or export the model folder again."
            )
    scaling = fields["input_scaling"]
    scaling = {**scaling, "clip": tuple(scaling.get("clip", (None, None)))}
    architecture = dict(_known(UNet, fields["architecture"], where="architecture"))
    rule = architecture.get("kernel_init")
    if rule in initializers.RENAMED:
        architecture["kernel_init"] = initializers.RENAMED[rule]
    model = UNet(**architecture)
    names = tuple(fields["class_names"])
    if names and len(names) != model.num_classes:
        raise ValueError(
            f"class_names must name all {model.num_classes} classes or none, got "
            f"{len(names)} names."
        )
    return fields["channels"], {
        "model": model,
        "input_scaling": InputScaling(
            **_known(InputScaling, scaling, where="input_scaling")
        ),
        "class_names": names,
        "instances": InstanceSettings(
            **_known(InstanceSettings, fields["instances"], where="instances")
        ),
        "provenance": Provenance(
            **_known(Provenance, fields["provenance"], where="provenance")
        ),
    }


def _from_format_1(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of model.json as format 2 names them.

    The facts in `about` were free to choose: those that have no field now are notes.
    """
    fields = dict(fields)
    scaling = {
        "method": fields.pop("scaling", None),
        "clip": fields.pop("clip", [None, None]),  # the oldest folders have none
    }
    about = dict(fields.pop("about", {}))
    known = {f.name for f in dataclasses.fields(Provenance)}
    notes = [f"{name}: {about.pop(name)}" for name in sorted(about.keys() - known)]
    return {
        **fields,
        "input_scaling": scaling,
        "provenance": {**about, "notes": "; ".join(notes)},
    }


def _known(kind: type, options: dict[str, Any], *, where: str) -> dict[str, Any]:
    """The options of a class, all of which it must have."""
    names = {f.name for f in dataclasses.fields(kind)} - {"parent", "name"}
    _refuse_unknown(options, names, where=where)
    return options


def _flatten(variables: PyTree) -> dict[str, Any]:
    """The leaves by their path, as `params/encoder_0/conv_0/kernel`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }


def _check_arrays(
    arrays: dict[str, Shaped[np.ndarray, "..."]], model: UNet, channels: int
) -> None:
    """Refuses arrays other than those of the architecture."""
    side = model.geometry.input_size(1)

    def init() -> PyTree:
        image = jnp.zeros((1, side, side, channels))
        return model.init(jax.random.key(0), image, train=False)

    expected, given = (
        {name: f"{leaf.dtype} {list(leaf.shape)}" for name, leaf in leaves.items()}
        for leaves in (_flatten(jax.eval_shape(init)), arrays)
    )
    for name in sorted(expected.keys() | given.keys()):
        right, actual = (d.get(name, "nothing") for d in (expected, given))
        if actual != right:
            raise ValueError(
                f"the arrays do not fit the architecture: {name} must be {right}, got "
                f"{actual}; use the model that they were trained with."
            )


def _refuse_unknown(
    names: Iterable[str], known: Collection[str], *, where: str
) -> None:
    for name in names:
        if name not in known:
            raise ValueError(
                f"{where} has no field {name!r}; {suggest(name, known)} A later "
                "version of unetjax may know it."
            )


def _refuse_no_model(folder: pathlib.Path) -> None:
    if not (folder / MODEL).exists() and not (folder / manifests.MANIFEST).exists():
        raise FileNotFoundError(
            f"{folder} is not a model folder, it has no {MODEL}; name another folder."
        )


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
            manifests.verify_manifest(folder)
        except manifests.CorruptFilesError as error:
            raise FileExistsError(
                f"{folder} was changed since it was written ({error}) and is not "
                "replaced; move it away or name a new folder."
            ) from error


def _discard(folder: pathlib.Path) -> None:
    """Deletes a folder that `save_model` has made, if there is one."""
    if folder.exists():
        shutil.rmtree(folder)


def _readme(fields: dict[str, Any], name: str) -> str:
    """The text of the README of a model folder."""
    architecture, origin = fields["architecture"], fields["provenance"]
    classes = fields["class_names"] or architecture["num_classes"]
    facts = {
        "classes": classes if isinstance(classes, int) else ", ".join(classes),
        "channels": fields["channels"],
        "input scaling": fields["input_scaling"]["method"],
        **{key: x for key, x in origin.items() if x and not isinstance(x, dict)},
    }
    lines = [f"- {key}: {value}" for key, value in facts.items()]
    for field, title in _SCORES.items():
        scores = [f"- {k}: {x:.4g}" for k, x in origin[field].items() if x is not None]
        lines += ["", title, "", *scores] if scores else []
    return _README.format(
        name=name, version=fields["unetjax"], lines="\n".join(lines), **architecture
    )
