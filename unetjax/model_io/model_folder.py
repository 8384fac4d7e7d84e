"""The deliverable of training: a folder that holds a network and how to use it.

    model.json     architecture, input scaling, classes, facts of the training
    weights.npz    arrays by parameter path
    README.md      the same facts for people
    manifest.json  SHA-256 of each file

Data only: loading a folder runs nothing that is in it.
"""

import dataclasses
import difflib
import importlib.metadata
import json
import os
import pathlib
import shutil
import zipfile
from collections.abc import Collection, Iterable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import PyTree, Shaped

from unetjax.files import manifests
from unetjax.inference.trained_model import TrainedModel
from unetjax.network import initializers, input_scaling
from unetjax.network.input_scaling import Scaling
from unetjax.network.unet import UNet, num_input_channels

MODEL, WEIGHTS, README = "model.json", "weights.npz", "README.md"

_FILES = {MODEL, WEIGHTS, README, manifests.MANIFEST}
_FORMAT = 1  # one more with every change that older code would misread
_FIELDS = {  # of model.json
    "format": int,
    "unetjax": str,
    "architecture": dict,
    "channels": int,
    "scaling": str,
    "clip": list,
    "class_names": list,
    "instances": dict,
    "about": dict,
}
_ARCHITECTURE = {f.name for f in dataclasses.fields(UNet)} - {"parent", "name"}

_README = """# {name}

A U-Net for images of any size, trained with unetjax {version}: {features} features,
depth {depth}, {padding} padding.

{lines}

Everything there is to know is in model.json. To segment images:

    unetjax predict {name} image.tif --out results

or in Python, for the probability of every class at every pixel:

    import unetjax
    trained = unetjax.load("{name}")
    probs = unetjax.predict(
        trained.model,
        trained.params,
        image,  # [H, W, C], grey values as stored
        model_state=trained.model_state,
        scaling=trained.scaling,
        clip=trained.clip,
    )
"""


def save(folder: str | os.PathLike[str], trained: TrainedModel) -> None:
    """Writes a model folder, complete or not at all.

    An earlier model folder of the same name is replaced if it is as it was written.

    Args:
      folder: Name of the folder; absent, empty, or a model folder.
      trained: What to write.

    Raises:
      FileExistsError: If the folder holds anything that `save` has not written.
      ValueError: If the parameters are not those of the model, or if something is not
        JSON data; nothing is written then.
    """
    folder = pathlib.Path(folder).resolve()  # a link stays a link
    fields, text = _to_json(trained)
    variables = {"params": trained.params, **trained.model_state}
    arrays = _flatten(jax.tree.map(np.asarray, variables))
    _check_arrays(arrays, trained.model, fields["channels"])
    _refuse_others(folder)
    new, old = (folder.with_name(f".{folder.name}.{end}") for end in ("new", "old"))
    _discard(new)  # of a process that was killed
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


def load(folder: str | os.PathLike[str]) -> TrainedModel:
    """Returns the network of a model folder, with all it takes to use it.

    `model, params, *_ = load(folder)` is enough to call `model.apply`.

    Args:
      folder: A folder that `save` has written, or a run folder with one named `model`.

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
        model, channels, rest = _from_json(json.loads(text))
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
    return TrainedModel(model, variables.pop("params"), variables, **rest)


def _to_json(trained: TrainedModel) -> tuple[dict[str, Any], str]:
    """The fields of model.json and its text, which `load` will accept."""
    model = trained.model
    architecture = {name: getattr(model, name) for name in sorted(_ARCHITECTURE)}
    fields = {
        "format": _FORMAT,
        "unetjax": importlib.metadata.version("unetjax"),
        "architecture": {**architecture, "dtype": jnp.dtype(model.dtype).name},
        "channels": num_input_channels(trained.params),
        "scaling": trained.scaling,
        "clip": list(trained.clip),
        "class_names": list(trained.class_names),
        "instances": trained.instances,
        "about": trained.about,
    }
    try:
        text = json.dumps(fields, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"instances and about must be JSON data without NaN: {error}; convert it."
        ) from error
    _from_json(json.loads(text))
    return fields, text


def _from_json(fields: dict[str, Any]) -> tuple[UNet, int, dict[str, Any]]:
    """The network, its number of channels, and the other fields of `TrainedModel`."""
    version = dict(fields).get("format")
    if version != _FORMAT:
        raise ValueError(
            f"its format is {version!r}, this version of unetjax reads {_FORMAT}; "
            "update unetjax."
        )
    fields = {"clip": [None, None], **fields}  # older folders have none
    _refuse_unknown(fields, _FIELDS, where="it")
    for name, kind in _FIELDS.items():
        if not isinstance(fields.get(name), kind):
            raise ValueError(
                f"{name} must be of type {kind.__name__}, got {fields.get(name)!r}; "
                "get the model folder anew."
            )
    _refuse_unknown(fields["architecture"], _ARCHITECTURE, where="architecture")
    architecture = dict(fields["architecture"])
    rule = architecture.get("kernel_init")
    if rule in initializers.RENAMED:
        architecture["kernel_init"] = initializers.RENAMED[rule]
    model = UNet(**architecture)
    if fields["scaling"] not in get_args(Scaling):
        raise ValueError(
            f"scaling must be one of {', '.join(get_args(Scaling))}, got "
            f"{fields['scaling']!r}."
        )
    names = tuple(fields["class_names"])
    if names and len(names) != model.num_classes:
        raise ValueError(
            f"class_names must name all {model.num_classes} classes or none, got "
            f"{len(names)} names."
        )
    clip = tuple(fields["clip"])
    input_scaling.check_clip(clip)
    rest = {name: fields[name] for name in ("scaling", "instances", "about")}
    return model, fields["channels"], {**rest, "class_names": names, "clip": clip}


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

    expected, found = (
        {name: f"{leaf.dtype} {list(leaf.shape)}" for name, leaf in leaves.items()}
        for leaves in (_flatten(jax.eval_shape(init)), arrays)
    )
    for name in sorted(expected.keys() | found.keys()):
        right, actual = (d.get(name, "nothing") for d in (expected, found))
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
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)
            raise ValueError(
                f"{where} has no field {name!r}; did you mean {near[0]}? A later "
                "version of unetjax may know it."
            )


def _refuse_no_model(folder: pathlib.Path) -> None:
    if not (folder / MODEL).exists() and not (folder / manifests.MANIFEST).exists():
        raise FileNotFoundError(
            f"{folder} is not a model folder, it has no {MODEL}; name another folder."
        )


def _refuse_others(folder: pathlib.Path) -> None:
    """Refuses to replace anything but an empty folder or what `save` has written."""
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
    """Deletes a folder of ours, if there is one."""
    if folder.exists():
        shutil.rmtree(folder)


def _readme(fields: dict[str, Any], name: str) -> str:
    """The model for people: what it is, what it was trained on, how to use it."""
    architecture, about = fields["architecture"], fields["about"]
    classes = fields["class_names"] or architecture["num_classes"]
    facts = {
        "classes": ", ".join(classes) if isinstance(classes, list) else classes,
        "channels": fields["channels"],
        "input scaling": fields["scaling"],
        **{key: x for key, x in about.items() if not isinstance(x, dict | list)},
    }
    scores = about.get("scores")
    if isinstance(scores, dict):
        facts |= {key: f"{x:.4g}" for key, x in scores.items() if x is not None}
    lines = "\n".join(f"- {key}: {value}" for key, value in facts.items())
    return _README.format(
        name=name, version=fields["unetjax"], lines=lines, **architecture
    )
