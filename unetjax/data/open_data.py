"""`DataSettings`, and the training, validation and test images that they select."""

import re
from collections.abc import Callable
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

DataName = Literal["folder", "synthetic", "lines", "discs", DatasetName]

_SLICE = r"(-?\d+)?:(-?\d+)?"
_TFDS_SPLIT = r"\w+(\[(-?\d+%?)?:(-?\d+%?)?\])?"


@dataclass(frozen=True)
class DataSettings:
    """Where annotated images are, and how they are split.

    Validation images choose the best step and the instance settings, test images choose
    nothing. Of images that name no validation part, part is drawn.

    Attributes:
      name: `folder`; `synthetic`, touching cells drawn from a seed; `lines`, branching
        lines, and `discs`, the toy problem of jakeret/tf_unet, likewise; or a public
        data set: one of `unetjax.data.datasets.NAMES`.
      images: Of `folder`: folder of images, or one file.
      masks: Of `folder`: folder of their masks, or one file.
      image_suffix: Of `folder`: how names of images end, such as "_img.png"; "" is any.
      mask_suffix: Of `folder`: how the names of their masks end instead; "" finds masks
        as `folder.pair` does.
      mask_type: Of `folder`: what the numbers in masks mean.
      ignore: Of `folder`: the number of unannotated pixels in masks, beside -1; see
        `mask_formats.infer_mask_format`.
      within: Of `folder`: folder of masks of the fields of view, or one file; pixels
        that are 0 there are not annotated. See `folder.fields_of_view`.
      channels: Of `folder`: the channels of the images, each a number, counted from 0,
        or a name; empty is all. See `files.images.read_stack`.
      train: Training images. Of a public data set a split or a slice of it such as
        "train[:20]"; of others a slice such as ":20" of the images in order; "" is all
        images that are not in another part.
      validation: Validation images, likewise; "" draws them.
      test: Test images, likewise; "" is none, unless another option names them.
      validation_images: Folder of validation images, if they have their own.
      validation_masks: Folder of their masks.
      test_images: Folder of test images, if they have their own.
      test_masks: Folder of their masks.
      validation_fraction: Fraction of the images that is drawn for validation; of a
        single image, fraction of its longer side.
      test_fraction: Fraction of the images that is drawn for testing, before the
        validation images are; 0 draws none.
      guard: Width in pixels of the band between two parts of a single image.
      fold: Instead of `validation_fraction`: "2/5" validates on the second of five
        parts of the images, which together are all of them.
      seed: Seed of drawn parts, folds and synthetic images, in [0, 2^32). It does not
        depend on the seed of training, so that runs that differ in that one share their
        images.
      keep_split: Whether a run whose images were changed since it began resumes with
        the images of its own split, without those that were added.
      num_images: Of `synthetic`, `lines` and `discs`: number of images.
      data_dir: Of a public data set: folder of prepared data; "" is that of TFDS.
      manual_dir: Of a public data set: folder of files fetched by hand; "" downloads.

    Raises:
      ValueError: On construction, for a value that is not accepted.
    """

    name: DataName = "folder"
    images: str = ""
    masks: str = ""
    image_suffix: str = ""
    mask_suffix: str = ""
    mask_type: MaskType = "auto"
    ignore: int | None = None
    within: str = ""
    channels: tuple[str, ...] = ()
    train: str = ""
    validation: str = ""
    test: str = ""
    validation_images: str = ""
    validation_masks: str = ""
    test_images: str = ""
    test_masks: str = ""
    validation_fraction: float = 0.2
    test_fraction: float = 0.0
    guard: int = 64
    fold: str = ""
    seed: int = 0
    keep_split: bool = False
    num_images: int = 10
    data_dir: str = ""
    manual_dir: str = ""

    def __post_init__(self) -> None:
        """Validates all fields, and their combinations."""
        check_fields(self)
        check_range("validation_fraction", self.validation_fraction, above=0, below=1)
        check_range("test_fraction", self.test_fraction, at_least=0, below=1)
        check_range("guard", self.guard, at_least=0)
        check_range("seed", self.seed, at_least=0, below=2**32)
        check_range("num_images", self.num_images, at_least=1)
        for name in ("train", "validation", "test"):
            self._check_selection(name)
        fold, _, count = self.fold.partition("/")
        is_fold = fold.isdecimal() and count.isdecimal() and int(count) > 1
        if self.fold and not (is_fold and 1 <= int(fold) <= int(count)):
            raise ValueError(
                f"fold must be such as '1/5' to '5/5', got {self.fold!r}; leave it "
                "empty for no cross-validation."
            )
        self._check_one_of("validation", "validation_images", "fold")
        self._check_one_of("test", "test_images", "test_fraction")
        for part in ("validation", "test"):
            images, masks = (getattr(self, f"{part}_{x}") for x in ("images", "masks"))
            if bool(images) != bool(masks):
                raise ValueError(
                    f"{part}_images and {part}_masks must be given together, got "
                    f"{images!r} and {masks!r}."
                )

    def _check_selection(self, part: str) -> None:
        selection = getattr(self, part)
        if self.name in get_args(DatasetName):
            pattern, example = _TFDS_SPLIT, "'train[:20]'"
        else:
            pattern, example = _SLICE, "':20' or '20:'"
        if selection and not re.fullmatch(pattern, selection):
            raise ValueError(
                f"{part} must be such as {example} of data {self.name!r}, got "
                f"{selection!r}."
            )

    def _check_one_of(self, *names: str) -> None:
        values = {name: getattr(self, name) for name in names}
        given = [f"{name} {value!r}" for name, value in values.items() if value]
        if len(given) > 1:
            raise ValueError(
                f"{names[0]} images must be selected in one way, got "
                f"{' and '.join(given)}; keep one of these options."
            )


def open_split(settings: DataSettings, *, num_classes: int | None = None) -> Split:
    """Returns the training, validation and test images, none of them in two parts.

    Args:
      settings: Where the images are, and how they are split.
      num_classes: If given, labels must be below it.

    Raises:
      FileNotFoundError: If files are missing.
      ValueError: If a part has no image, two parts have an image in common, or the data
        set has errors.
    """
    select = _selector(settings)
    train, named = select(settings.train), dict[str, list[Example]]()
    for part in ("test", "validation"):
        images, masks = (getattr(settings, f"{part}_{x}") for x in ("images", "masks"))
        if images:
            named[part] = _load_folder(settings, images, masks)
        elif selection := getattr(settings, part):
            named[part] = select(selection)
            if not settings.train:
                train = splits.without(train, named[part])
    split = draw_split(train, settings, **named)
    for name, part in zip(split._fields, split, strict=True):
        if part is not None and not part:
            raise ValueError(f"config.data.{name} selects no image; select at least 1.")
    splits.check_disjoint(split)
    examples = [example for part in split for example in part or ()]
    checks.raise_errors(checks.check(examples, num_classes=num_classes))
    return split


def draw_split(
    examples: list[Example],
    settings: DataSettings,
    *,
    validation: list[Example] | None = None,
    test: list[Example] | None = None,
) -> Split:
    """Returns a split whose missing parts are drawn from the examples.

    Args:
      examples: The images of which training images are what the drawn parts leave.
      settings: Fractions, fold and seed.
      validation: Validation images, if they need not be drawn.
      test: Test images, if they need not be drawn.
    """
    if test is None and settings.test_fraction:
        fraction, (first, *others) = settings.test_fraction, examples
        if others:
            examples, test, _ = splits.random_split(
                examples, fraction=fraction, seed=settings.seed
            )
        else:
            (rest,), (part,), _ = splits.split_image(
                first, fraction=fraction, guard=settings.guard
            )
            examples = [rest._replace(name=first.name)]
            test = [part._replace(name=f"{first.name}-test")]
    if validation is None:
        examples, validation, _ = _draw_validation(examples, settings)
    return Split(examples, validation, test)


def _draw_validation(examples: list[Example], settings: DataSettings) -> Split:
    if settings.fold:
        fold, count = map(int, settings.fold.split("/"))
        return splits.folds(examples, count, seed=settings.seed)[fold - 1]
    fraction = settings.validation_fraction
    if len(examples) == 1:
        return splits.split_image(examples[0], fraction=fraction, guard=settings.guard)
    return splits.random_split(examples, fraction=fraction, seed=settings.seed)


def _selector(settings: DataSettings) -> Callable[[str], list[Example]]:
    """Returns the function from a selection such as ":20" to images, "" being all."""
    if settings.name in ("folder", "synthetic", "lines", "discs"):
        examples = _read_all(settings)
        return lambda selection: examples[_slice(selection)]
    return lambda selection: datasets.load(
        settings.name,
        split=selection or "train",
        data_dir=settings.data_dir or None,
        manual_dir=settings.manual_dir or None,
    )


def _read_all(settings: DataSettings) -> list[Example]:
    indices = range(settings.num_images)
    if settings.name == "synthetic":
        return [synthetic.touching_cells(settings.seed, i) for i in indices]
    if settings.name == "lines":
        return [synthetic.branching_lines(settings.seed, i) for i in indices]
    if settings.name == "discs":
        return [
            synthetic.discs(
                np.random.default_rng([settings.seed, i]), name=f"discs-{i:03d}"
            )
            for i in indices
        ]
    if not settings.images or not settings.masks:
        raise ValueError(
            "config.data.images and config.data.masks must name the folders of "
            f"images and masks, got {settings.images!r} and {settings.masks!r}."
        )
    return _load_folder(settings, settings.images, settings.masks)


def _load_folder(settings: DataSettings, images: str, masks: str) -> list[Example]:
    return folder.load(
        images,
        masks,
        mask_type=settings.mask_type,
        ignore=settings.ignore,
        channels=settings.channels,
        naming=FileNaming(settings.image_suffix, settings.mask_suffix),
        within=settings.within or None,
    )


def _slice(selection: str) -> slice:
    bounds = (selection or ":").split(":")
    return slice(*(int(bound) if bound else None for bound in bounds))
