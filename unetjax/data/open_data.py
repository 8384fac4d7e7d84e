"""`DataSettings`, and the training and validation images that they select."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from unetjax.data import checks, datasets, folder, splits, synthetic
from unetjax.data.datasets import DatasetName
from unetjax.data.examples import Example
from unetjax.data.folder import FileNaming
from unetjax.data.mask_formats import MaskType
from unetjax.data.splits import Split
from unetjax.settings import check_fields, check_range

DataName = Literal["folder", "synthetic", "discs", DatasetName]

_SLICE = r"(-?\d+)?:(-?\d+)?"
_TFDS_SPLIT = r"\w+(\[(-?\d+%?)?:(-?\d+%?)?\])?"


@dataclass(frozen=True)
class DataSettings:
    """Where annotated images are, and which of them are held out.

    Attributes:
      name: `folder`; `synthetic`, touching cells drawn from a seed; `discs`, the toy
        problem of jakeret/tf_unet, likewise; or a public data set: one of
        `unetjax.data.datasets.NAMES`.
      images: Of `folder`: folder of images, or one file.
      masks: Of `folder`: folder of their masks, or one file.
      image_suffix: Of `folder`: how names of images end, such as "_img.png"; "" is any.
      mask_suffix: Of `folder`: how those of their masks end instead; "" is as `pair`
        in `unetjax.data.folder` looks for them.
      mask_type: Of `folder`: what the numbers in masks mean.
      train: Which images train. Of a public data set a split or a slice of it such as
        "train[:20]"; of others a slice such as ":20" of the images in order; "" is all
        that are not held out.
      validation: Which images are held out, likewise; "" draws them.
      validation_images: Of `folder`: folder of held-out images, if they have their own.
      validation_masks: Of `folder`: folder of their masks.
      holdout: Part of the images drawn as held out where nothing else names them; of a
        single image, part of its longer side.
      guard: Width in pixels of the band between the two parts of a single image.
      fold: Instead of `holdout`: "2/5" holds out the second of five parts of the
        images, which together are all of them.
      num_images: Of `synthetic` and `discs`: number of images.
      data_dir: Of a public data set: folder of prepared data; "" is that of TFDS.
      manual_dir: Of a public data set: folder of files fetched by hand; "" downloads.
    """

    name: DataName = "folder"
    images: str = ""
    masks: str = ""
    image_suffix: str = ""
    mask_suffix: str = ""
    mask_type: MaskType = "auto"
    train: str = ""
    validation: str = ""
    validation_images: str = ""
    validation_masks: str = ""
    holdout: float = 0.2
    guard: int = 64
    fold: str = ""
    num_images: int = 10
    data_dir: str = ""
    manual_dir: str = ""

    def __post_init__(self) -> None:
        """Validates all fields."""
        check_fields(self)
        for name in ("train", "validation"):
            self._check_selection(name)
        check_range("holdout", self.holdout, above=0, below=1)
        check_range("guard", self.guard, at_least=0)
        check_range("num_images", self.num_images, at_least=1)
        fold, _, count = self.fold.partition("/")
        is_fold = fold.isdecimal() and count.isdecimal() and int(count) > 1
        if self.fold and not (is_fold and 1 <= int(fold) <= int(count)):
            raise ValueError(
                f"fold must be such as '1/5' to '5/5', got {self.fold!r}; leave it "
                "empty for no cross-validation."
            )
        if self.fold and (self.validation or self.validation_images):
            raise ValueError(
                f"fold is {self.fold!r}, but the validation images are named already; "
                "leave validation and validation_images empty."
            )

    def _check_selection(self, name: str) -> None:
        selection = getattr(self, name)
        if self.name in get_args(DatasetName):
            pattern, examples = rf"{_TFDS_SPLIT}(\+{_TFDS_SPLIT})*", "'train[:20]'"
        else:
            pattern, examples = _SLICE, "':20' or '20:'"
        if selection and not re.fullmatch(pattern, selection):
            raise ValueError(
                f"{name} must be such as {examples} of data {self.name!r}, got "
                f"{selection!r}."
            )


def open_split(
    settings: DataSettings, *, seed: int = 0, num_classes: int | None = None
) -> Split:
    """Returns the images to train on and those held out, none of them in both.

    Args:
      settings: Where and which.
      seed: Of the draw, where images are drawn.
      num_classes: Where given, labels must be below it.

    Raises:
      FileNotFoundError: If files are missing.
      ValueError: If settings do not go together, or a data set has errors.
    """
    split = _open(settings, seed)
    for part, name in ((split.train, "train"), (split.validation, "validation")):
        if not len(part):
            raise ValueError(f"config.data.{name} selects no image; select at least 1.")
    splits.check_disjoint(split.train, split.validation)
    examples = [*split.train, *split.validation]
    checks.raise_errors(checks.check(examples, num_classes=num_classes))
    return split


def hold_out(
    examples: list[Example], settings: DataSettings, *, seed: int = 0
) -> Split:
    """Returns the examples with some drawn as held out; of one, a part of it."""
    if settings.fold:
        fold, count = map(int, settings.fold.split("/"))
        return splits.folds(examples, count, seed=seed)[fold - 1]
    if len(examples) == 1:
        return splits.split_image(
            examples[0], fraction=settings.holdout, guard=settings.guard
        )
    return splits.holdout(examples, fraction=settings.holdout, seed=seed)


def _open(settings: DataSettings, seed: int) -> Split:
    train = _read(settings, settings.train)
    if settings.validation_images:
        validation = _load_folder(
            settings, settings.validation_images, settings.validation_masks
        )
        return Split(train, validation)
    if settings.validation:
        validation = _read(settings, settings.validation)
        if not settings.train:
            train = splits.without(train, validation)
        return Split(train, validation)
    return hold_out(train, settings, seed=seed)


def _read(settings: DataSettings, which: str) -> list[Example]:
    if settings.name == "folder":
        if not settings.images or not settings.masks:
            raise ValueError(
                "config.data.images and config.data.masks must name the folders of "
                f"images and masks, got {settings.images!r} and {settings.masks!r}."
            )
        examples = _load_folder(settings, settings.images, settings.masks)
        return _slice(examples, which)
    if settings.name == "synthetic":
        examples = [synthetic.touching_cells(0, i) for i in range(settings.num_images)]
        return _slice(examples, which)
    if settings.name == "discs":
        examples = [
            synthetic.discs(np.random.default_rng([0, i]), name=f"discs-{i:03d}")
            for i in range(settings.num_images)
        ]
        return _slice(examples, which)
    source = datasets.load(
        settings.name,
        split=which or "train",
        data_dir=settings.data_dir or None,
        manual_dir=settings.manual_dir or None,
    )
    return [source[i] for i in range(len(source))]


def _load_folder(settings: DataSettings, images: str, masks: str) -> list[Example]:
    return folder.load(
        images,
        masks,
        mask_type=settings.mask_type,
        naming=FileNaming(settings.image_suffix, settings.mask_suffix),
    )


def _slice(examples: list[Example], which: str) -> list[Example]:
    """The examples of a Python slice such as ":20"; all of them for ""."""
    bounds = [int(part) if part else None for part in (which or ":").split(":")]
    return examples[slice(*bounds)]
