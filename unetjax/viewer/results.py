"""What there is to look at: predictions, with their images, truth and tables."""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from unetjax.data import checks
from unetjax.evaluation import prediction_inputs, prediction_record, scored_files
from unetjax.files import images, names
from unetjax.large import arrays

_RESULTS = ("_labels", "_mask")  # endings, the preferred one first
_NO_RESULTS = (names.OVERLAY, names.PROBS, names.UNCERTAINTY)
_PICTURES = "pictures"  # folder of a run


class Result(NamedTuple):
    """One image and the files about it; None where there is no such file.

    Attributes:
      name: What is shown as its name.
      image: The image.
      prediction: Its numbered cells, or its classes.
      truth: The same, annotated.
      probability: Probabilities of the classes.
      uncertainty: Variance of the probabilities.
      table: Measurements of the cells.
    """

    name: str
    image: pathlib.Path | None = None
    prediction: pathlib.Path | None = None
    truth: pathlib.Path | None = None
    probability: pathlib.Path | None = None
    uncertainty: pathlib.Path | None = None
    table: pathlib.Path | None = None


class Found(NamedTuple):
    """All results of a folder.

    Attributes:
      results: In the order of their names.
      warnings: What is missing, one sentence each.
    """

    results: list[Result]
    warnings: list[str]


def find(
    out: pathlib.Path,
    *,
    images: pathlib.Path | None = None,
    masks: pathlib.Path | None = None,
) -> Found:
    """Returns the predictions of a folder with everything that belongs to them.

    Args:
      out: The folder that `unetjax predict` wrote, a Zarr of labels, or the folder of a
        run, whose pictures are shown.
      images: Folder of the images; by default those that the record of `out` names.
      masks: Folder of true masks.

    Raises:
      FileNotFoundError: If a folder does not exist.
      ValueError: If there is no prediction, or none of the images is found.
    """
    if not out.exists():
        raise FileNotFoundError(
            f"{out} does not exist; name the folder that  unetjax predict  wrote."
        )
    folder, predictions = _predictions(out)
    if not predictions:
        pictures = _pictures(out)
        if pictures and masks is None:
            return Found(pictures, [])
        raise ValueError(
            f"{out} has no predictions; name the folder that  unetjax predict MODEL "
            f"IMAGES --out  wrote."
        )
    sources, warnings = _images(folder, predictions, images)
    truths: Mapping[pathlib.Path, pathlib.Path] = {}
    if masks is not None:
        pairs, more = scored_files.pair_files(out, masks, labels=True, partial=True)
        truths = {prediction: truth for truth, prediction in pairs}
        warnings += more
    results = [
        Result(
            name,
            image=sources.get(name),
            prediction=path,
            truth=truths.get(path),
            probability=_beside(
                path, name, f"{names.PROBS}.tif", f"{names.PROBS}.zarr"
            ),
            uncertainty=_beside(path, name, f"{names.UNCERTAINTY}.tif"),
            table=_beside(path, name, "_objects.csv"),
        )
        for name, path in predictions.items()
    ]
    return Found(results, warnings)


def _predictions(
    out: pathlib.Path,
) -> tuple[pathlib.Path, dict[str, pathlib.Path]]:
    """Returns the folder of the record, and the predictions by their names."""
    if arrays.is_zarr(out):
        folder = out.with_name(f".{out.stem}.parts")
        known = prediction_record.recorded_sources(folder)
        return folder, {next(iter(known), out.stem): out}
    if not out.is_dir():
        raise ValueError(
            f"{out} is a file; name the folder that  unetjax predict  wrote."
        )
    found = dict[str, pathlib.Path]()
    for path in sorted(out.iterdir()):
        stem = names.stem(path)
        if names.is_hidden(path) or stem.endswith(_NO_RESULTS):
            continue
        if not (images.is_image(path) and path.is_file()) and not arrays.is_zarr(path):
            continue
        ending = next((each for each in _RESULTS if stem.endswith(each)), "")
        name = stem.removesuffix(ending)
        if name not in found or ending == _RESULTS[0]:
            found[name] = path
    return out, found


def _pictures(out: pathlib.Path) -> list[Result]:
    """Returns the pictures of a run, the latest first."""
    folder = out / _PICTURES
    files = sorted(folder.glob("*.png"), reverse=True) if folder.is_dir() else []
    return [Result(path.stem, image=path) for path in files]


def _images(
    folder: pathlib.Path,
    predictions: Mapping[str, pathlib.Path],
    given: pathlib.Path | None,
) -> tuple[dict[str, pathlib.Path], list[str]]:
    """Returns the images of predictions by their names, and what is missing."""
    if given is None:
        known = prediction_record.recorded_sources(folder)
        if not known:
            raise ValueError(
                f"{folder} does not say where its images are; name their folder by "
                "--images."
            )
        where = str(next(iter(known.values())).parent.resolve())
    else:
        paths = prediction_inputs.find([given], recursive=True).paths
        found = prediction_inputs.unique_names(paths)
        if len(predictions) == 1 and paths == [given]:  # one file, whatever its name
            found = list(predictions)
        known = dict(zip(found, paths, strict=True))
        by_stem = {names.common(names.stem(path)): path for path in paths}
        known |= {
            name: by_stem[names.common(name)]
            for name in predictions
            if name not in known and names.common(name) in by_stem
        }
        where = str(given)
    present = {n: p for n, p in known.items() if n in predictions and p.exists()}
    missing = [name for name in predictions if name not in present]
    if not present:
        raise ValueError(
            f"{where} has none of the images of {folder}, such as {missing[0]}; name "
            "their folder by --images."
        )
    if not missing:
        return present, []
    listed = checks.listed(missing)
    return present, [f"{len(missing)} predictions have no image: {listed}."]


def _beside(prediction: pathlib.Path, name: str, *endings: str) -> pathlib.Path | None:
    """Returns the first of some files of a prediction that exists."""
    paths = [prediction.with_name(f"{name}{ending}") for ending in endings]
    return next((path for path in paths if path.exists()), None)
