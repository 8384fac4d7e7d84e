"""The identity of a split: names and contents of its images, by which it is known."""

from collections.abc import Mapping, Sequence
from typing import Any

from unetjax.data.checks import listed
from unetjax.data.examples import Example, annotation_hash, content_hash
from unetjax.data.splits import Split
from unetjax.files.json_files import CorruptFilesError

Images = Mapping[str, Sequence[Mapping[str, str]] | None]

_ADVICE = "set config.data.keep_split=True (unetjax train: --keep-split)"


def describe(split: Split) -> dict[str, Any]:
    """Returns names and hashes of all images and masks, by part, fit for JSON.

    Example:
      >>> describe(Split([], []))
      {'train': [], 'validation': [], 'test': None}
    """
    return {
        part: None if examples is None else list(map(_entry, examples))
        for part, examples in split._asdict().items()
    }


def differences(old: Images, new: Images) -> list[str]:
    """Returns what was added, removed, changed or moved to another part, if anything.

    Args:
      old: From `describe`.
      new: From `describe`.
    """
    before, after = _parts(old), _parts(new)
    groups = {
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
        "changed": [
            name
            for name in before
            if name in after and before[name][1] != after[name][1]
        ],
        "in another part": [
            f"{name} ({before[name][0]}, now {after[name][0]})"
            for name in before
            if name in after and before[name][0] != after[name][0]
        ],
    }
    texts = [f"{what}: {listed(names)}" for what, names in groups.items() if names]
    return texts or (["in another order"] if old != new else [])


def keep_split(old: Images, split: Split) -> Split:
    """Returns the images of an earlier split, in its parts and its order.

    Args:
      old: The earlier split, from `describe`.
      split: Present images, in any parts.

    Raises:
      ValueError: If images of the earlier split are missing or were changed.
    """
    examples = [example for part in split for example in part or ()]
    present = {tuple(_entry(example).values()): example for example in examples}
    missing = [
        entry["name"]
        for part in old.values()
        for entry in part or ()
        if tuple(entry.values()) not in present
    ]
    if missing:
        raise ValueError(
            f"the earlier split cannot be kept without {listed(missing)}, of which the "
            "image or the mask is missing or was changed; put them back."
        )
    train, validation, test = (
        [present[tuple(entry.values())] for entry in old[part] or ()]
        for part in Split._fields
    )
    return Split(train, validation, None if old["test"] is None else test)


def refusal(folder: str, changes: Sequence[str]) -> str:
    """Returns the message for a run whose images differ from those it began with."""
    return (
        f"{folder} was trained with other images ({'; '.join(changes)}); put them back "
        f"to resume it, or {_ADVICE} to go on with the images of its own split, or "
        "choose another folder to start anew."
    )


def check(images: object, *, where: str) -> Images:
    """Returns what `describe` has written, read back from a file.

    Args:
      images: What the file holds.
      where: The file.

    Raises:
      CorruptFilesError: If it is anything else.
    """
    fields = {"name", "image", "mask"}
    if not isinstance(images, dict) or images.keys() != set(Split._fields):
        raise CorruptFilesError(
            f"{where} is damaged: it has no list of images for each part."
        )
    for part, entries in images.items():
        if not isinstance(entries, list) and not (entries is None and part == "test"):
            raise CorruptFilesError(f"{where} is damaged: {part} is no list of images.")
        for entry in entries or ():
            if (
                not isinstance(entry, dict)
                or entry.keys() != fields
                or not all(isinstance(value, str) for value in entry.values())
            ):
                raise CorruptFilesError(
                    f"{where} is damaged: an image has no name and hashes."
                )
    return images


def _entry(example: Example) -> dict[str, str]:
    return {
        "name": example.name,
        "image": content_hash(example),
        "mask": annotation_hash(example),
    }


def _parts(images: Images) -> dict[str, tuple[str, tuple[str, str]]]:
    """Returns the part and the hashes of each image by its name.

    Images of equal names, such as of two folders, are told apart by their number.
    """
    parts = dict[str, tuple[str, tuple[str, str]]]()
    for part, entries in images.items():
        for entry in entries or ():
            name, count = entry["name"], 1
            while name in parts:
                count += 1
                name = f"{entry['name']} ({count})"
            parts[name] = (part, (entry["image"], entry["mask"]))
    return parts
