import pathlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from unetjax.data import folder
from unetjax.files import names

CELLS = np.zeros((16, 20), np.uint16)
CELLS[2:6, 2:6] = 1
CELLS[9:13, 9:14] = 2
THREE = np.rot90(CELLS, 2).copy()
THREE[14:, 10:13] = 3


def photograph(seed, *shape):
    return np.random.default_rng(seed).integers(
        0, 255, shape or (16, 20), dtype=np.uint8
    )


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower().startswith(".tif"):
        tifffile.imwrite(path, array, photometric="minisblack")
    else:
        Image.fromarray(array).save(path)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Writes images and masks by name into a fresh working folder."""
    monkeypatch.chdir(tmp_path)

    def write(images, masks=()):
        for i, name in enumerate(images):
            save(pathlib.Path(name), photograph(i))
        for name in masks:
            save(pathlib.Path(name), CELLS)

    return write


@pytest.mark.parametrize(
    "mask",
    [
        "a.tif",
        "a.png",
        "a.TIFF",
        "a_mask.png",
        "a_masks.tif",
        "a_label.png",
        "a_labels.tif",
        "a_cp_masks.png",
        "a_seg.tif",
        "a_Mask.png",
        "A.tif",
    ],
)
def test_masks_are_found_by_name(tree, mask):
    tree(["images/a.tif"], [f"masks/{mask}", "masks/ab.png", "masks/b_a.tif"])
    ((image, paired),) = folder.pair("images", "masks")
    assert (image, paired) == (
        pathlib.Path("images/a.tif"),
        pathlib.Path("masks") / mask,
    )


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("t007", "man_seg007"),
        ("t007", "t007_mask"),
        ("man_seg007", "mask007"),
        ("man_seg007", "t007_labels"),
    ],
)
def test_names_of_the_cell_tracking_challenge(tree, image, mask):
    tree([f"i/{image}.tif"], [f"m/{mask}.tif", "m/man_seg07.tif", "m/man_seg.tif"])
    (pair,) = folder.pair("i", "m")
    assert pair.mask.name == f"{mask}.tif"


def test_a_sequence_and_its_masks_may_be_in_one_folder(shared_data):
    """Frames t000.tif, truth man_seg000.tif, LZW compressed."""
    pytest.importorskip("imagecodecs", reason="the challenge compresses by LZW")
    frames = shared_data / "ctc_fluo_n2dh_sim"
    understood = folder.read(frames, frames)
    assert {problem.severity for problem in understood.problems} == {"warning"}
    assert str(understood.summary).startswith("10 images 690x628 uint16, 1 channel")


def test_names_of_folders_do_not_matter(tree):
    """A suffix inside a folder name or in the middle of a name means nothing."""
    tree(["x.tif_mask/a.tif.tif", "x.tif_mask/a_mask.tif"])
    tree([], ["y_mask.tif/a.tif_mask.png", "y_mask.tif/a_mask.png"])
    pairs = folder.pair("x.tif_mask", "y_mask.tif")
    assert [(pair.image.name, pair.mask.name) for pair in pairs] == [
        ("a.tif.tif", "a.tif_mask.png"),
        ("a_mask.tif", "a_mask.png"),
    ]


def test_images_and_masks_may_be_in_one_folder_or_be_two_files(tree):
    tree(["all/a.tif", "all/b.ome.tif"], ["all/a_masks.png", "all/b_mask.png"])
    assert [
        pair.mask.name for pair in folder.pair("all", pathlib.Path("all").resolve())
    ] == [
        "a_masks.png",
        "b_mask.png",
    ]
    (pair,) = folder.pair("all/a.tif", "all/b_mask.png")
    assert pair.mask.name == "b_mask.png"


def test_every_missing_mask_is_named_at_once(tree):
    tree([f"images/0{i}.tif" for i in range(4)], ["masks/00.tif", "masks/03_mask.tif"])
    with pytest.raises(ValueError, match="images are paired") as error:
        folder.pair("images", "masks")
    assert str(error.value).splitlines() == [
        "images/01.tif has no mask: looked for masks/01.tif, masks/01_mask.tif, "
        "masks/01_masks.tif and 4 more; rename the mask, or give --mask-suffix.",
        "images/02.tif has no mask: looked for masks/02.tif, masks/02_mask.tif, "
        "masks/02_masks.tif and 4 more; rename the mask, or give --mask-suffix. "
        "2 of 4 images are "
        "paired.",
    ]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a_img.tif", "a_masks.tif"),
        ("a_IMG.tif", "a.png"),
        ("Zelle_\u00e9.tif", "Zelle_e\u0301.tif"),
        ("Zelle_e\u0301.tif", "Zelle_\u00e9_mask.png"),
    ],
)
def test_names_of_other_programs_and_systems(tree, image, mask):
    tree([f"i/{image}"], [f"m/{mask}"])
    (pair,) = folder.pair("i", "m")
    assert (pair.image.name, pair.mask.name) == (image, mask)


def test_a_name_that_only_looks_like_that_of_a_mask(tree):
    """In one folder: the image no_label.tif with its mask, and a mask without image."""
    tree(["no_label.tif", "b_mask.tif"], ["no_label_mask.tif", "b_mask_mask.tif"])
    assert [(p.image.name, p.mask.name) for p in folder.pair(".", ".")] == [
        ("b_mask.tif", "b_mask_mask.tif"),
        ("no_label.tif", "no_label_mask.tif"),
    ]
    tree([], ["c_mask.tif"])
    pairs = folder.pair(".", ".")
    assert len(pairs) == 2
    texts = [problem.text for problem in folder.read(".", ".").problems]
    assert any("1 of 3 masks have no image" in text for text in texts)


def test_masks_alone_are_not_images(tree):
    tree([], ["a_mask.tif", "b_labels.tif"])
    with pytest.raises(ValueError, match=r"no images beside masks.*a_mask.tif, b_lab"):
        folder.pair(".", ".")


def test_files_that_are_not_read_are_named(tree):
    tree(["i/a.tif"], ["m/a.tif"])
    for name in ("i/b.oib", "m/b.geojson", "i/notes", "i/.DS_Store", "m/Thumbs.db"):
        pathlib.Path(name).write_bytes(b"x")
    (warning,) = folder.read("i", "m").problems
    assert warning.severity == "warning"
    assert warning.text == (
        "3 files are not read: b.oib (a microscope's own format: export it as TIFF), "
        "notes, b.geojson (annotations of QuPath: export a label image from there)."
    )


def test_a_folder_without_images_says_what_it_holds(tree):
    tree(["i/day1/a.tif", "i/day2/a.tif"], ["m/a.tif"])
    with pytest.raises(
        ValueError, match=r"i holds no images itself, but .*: day1, day2;"
    ):
        folder.pair("i", "m")
    pathlib.Path("r").mkdir()
    pathlib.Path("r/RoiSet.zip").touch()
    with pytest.raises(
        ValueError, match=r"r holds no label images, .* but RoiSet.zip; .* a.json"
    ):
        folder.pair("m", "r")


def test_pairs_are_unique(tree):
    tree(["images/a.tif"], ["masks/a_mask.tif", "masks/a_mask.png"])
    with pytest.raises(
        ValueError, match=r"a\.tif has several masks, .*png, .*tif; keep"
    ):
        folder.pair("images", "masks")
    tree(["more/a.tif", "more/a.png"], ["truth/a.tif"])
    with pytest.raises(
        ValueError, match=r"a\.tif would be the mask of more/a\.png, more"
    ):
        folder.pair("more", "truth")


def test_masks_without_image_are_a_warning(tree):
    tree(["images/a.tif"], ["masks/a.tif", "masks/b.tif"])
    ((severity, text),) = folder.read("images", "masks").problems
    assert severity == "warning"
    assert text.startswith("1 of 2 masks have no image and are not used: masks/b.tif;")


def test_folders_without_images_are_named(tree):
    tree(["images/a.tif", "images/.hidden.tif"])
    pathlib.Path("empty").mkdir()
    pathlib.Path("empty/notes.txt").touch()
    assert len(folder.list_images("images")) == 1
    with pytest.raises(
        ValueError, match=r"empty holds no images, but notes.txt; accepted are \.tif,"
    ):
        folder.pair("images", "empty")
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        folder.pair("nowhere", "images")


def test_a_summary_is_one_line(tree):
    tree(["images/a.tif", "images/b.png"], ["masks/b.tif"])
    save(pathlib.Path("masks/a.tif"), THREE)
    examples, summary, problems, _ = folder.read("images", "masks")
    assert problems == []
    assert [example.name for example in examples] == ["a.tif", "b.png"]
    np.testing.assert_array_equal(examples[1].image[..., 0], photograph(1))
    np.testing.assert_array_equal(examples[1].instances, CELLS)
    assert str(summary) == (
        "2 images 16x20 uint8, 1 channel; masks: numbered cells, 2 to 3 per image"
    )
    save(pathlib.Path("images/c.png"), photograph(0, 18, 20, 3))
    save(pathlib.Path("masks/c.png"), np.pad(CELLS, ((1, 1), (0, 0))))
    summary = folder.read("images", "masks").summary
    assert str(summary).startswith("3 images 16x20 to 18x20 uint8, 1 or 3 channels; ")


def test_the_type_of_the_masks_can_be_given(tree):
    tree(["images/a.tif"], ["masks/a.tif"])
    (example,) = folder.load("images", "masks")
    assert example.label.max() == 1
    (example,) = folder.load("images", "masks", mask_type="classes")
    assert example.label.max() == 2


def test_pages_of_a_stack_are_images(tree):
    tree([])
    save(pathlib.Path("a.tif"), photograph(0, 3, 16, 20))
    save(pathlib.Path("b.tif"), np.stack([CELLS] * 3))
    save(pathlib.Path("c.tif"), np.stack([CELLS] * 2))
    examples = folder.load("a.tif", "b.tif")
    assert [example.name for example in examples] == [
        "a.tif[0]",
        "a.tif[1]",
        "a.tif[2]",
    ]
    np.testing.assert_array_equal(
        examples[2].image, photograph(0, 3, 16, 20)[2, ..., None]
    )
    with pytest.raises(
        ValueError, match=r"a\.tif holds 3 images but c\.tif 2 masks; bo"
    ):
        folder.load("a.tif", "c.tif")


def test_all_errors_of_a_folder_are_reported_at_once(tree):
    """All files are read, also after the first broken one."""
    tree(
        [f"images/{name}.png" for name in "abcdef"], [f"masks/{n}.tif" for n in "abcd"]
    )
    pathlib.Path("images/a.png").write_bytes(b"")
    save(pathlib.Path("masks/b.tif"), CELLS[:8])
    save(pathlib.Path("masks/d.tif"), THREE)
    save(pathlib.Path("masks/e.jpg"), CELLS.astype(np.uint8))
    save(pathlib.Path("images/c.png"), photograph(2, 16, 20, 3))
    _, summary, problems, _ = folder.read("images", "masks")
    texts = "\n".join(problem.text for problem in problems)
    for expected in (
        "images/f.png has no mask",
        "images/a.png is empty",
        "images/b.png is 16x20 but its mask 8x20",
        "masks/e.jpg is JPEG-compressed",
        "Numbers of channels differ",
    ):
        assert texts.count(expected) == 1
    assert len(problems) == 5
    assert summary.num_images == 2
    with pytest.raises(ValueError, match=r"images/f\.png") as error:
        folder.load("images", "masks")
    assert str(error.value) == texts


def test_unreadable_files_are_reported(tree):
    tree(["images/a.png"], ["masks/a.png"])
    pathlib.Path("images/a.png").write_bytes(b"")
    examples, summary, problems, _ = folder.read("images", "masks")
    assert (examples, summary, len(problems)) == ([], None, 1)
    save(pathlib.Path("images/a.png"), photograph(0))
    save(pathlib.Path("masks/a.png"), CELLS * 3 + 1)
    with pytest.raises(
        ValueError, match=r"^masks has masks with the values 1, 4, 7: nei"
    ):
        folder.load("images", "masks")


SWAPPED = "holds label images and .* photographs: are the two folders swapped?"


@pytest.mark.parametrize("channels", [(), (3,)])
def test_swapped_folders_are_named(tree, channels):
    """Photographs in colour cannot be label images; grey ones are unlikely to be."""
    tree([], ["masks/a.png"])
    save(pathlib.Path("images/a.png"), photograph(0, 16, 20, *channels))
    assert len(folder.load("images", "masks")) == 1
    with pytest.raises(ValueError, match=SWAPPED) as error:
        folder.load("masks", "images")
    assert str(error.value).startswith("masks holds label images and images photo")


@pytest.mark.parametrize(
    ("name", "summary"),
    [
        (
            "isbi2012_em",
            "24 images 512x512 uint8, 1 channel; masks: 0/255 read as background and "
            "foreground",
        ),
        (
            "dsb2018_nuclei/val",
            "15 images 256x256 to 520x696 uint8, 1 channel; masks: numbered cells",
        ),
        (
            "dsb2018_histology/val",
            "4 images 256x320 uint8, 3 channels; masks: numbered cells",
        ),
    ],
)
def test_real_data_sets_are_summarised(shared_data, name, summary):
    images, masks = shared_data / name / "images", shared_data / name / "labels"
    understood = folder.read(images, masks)
    assert str(understood.summary).startswith(summary)
    assert understood.problems == []
    with pytest.raises(ValueError, match=SWAPPED):
        folder.load(masks, images)


CUSTOM = folder.FileNaming("_img.png", "_seg.tif")


def test_custom_suffixes(tree):
    """Suffixes of file names only; neither folders nor other files count."""
    tree(["x_img.png/a_img.png", "x_img.png/b_img.png", "x_img.png/b.png"])
    tree([], ["m/a_seg.tif", "m/b_seg.tif", "m/a_img.png", "m/a_img_seg.tif"])
    pairs = folder.pair("x_img.png", "m", naming=CUSTOM)
    assert [(pair.image.name, pair.mask.name) for pair in pairs] == [
        ("a_img.png", "a_seg.tif"),
        ("b_img.png", "b_seg.tif"),
    ]


def test_suffixes_in_one_folder(tree):
    """As jakeret/tf_unet has them: .tif, of which those in _mask.tif are masks."""
    tree(["all/a.tif", "all/b.tif"], ["all/a_mask.tif", "all/b_mask.tif"])
    pairs = folder.pair("all", "all", naming=folder.FileNaming(".tif", "_mask.tif"))
    assert [(pair.image.name, pair.mask.name) for pair in pairs] == [
        ("a.tif", "a_mask.tif"),
        ("b.tif", "b_mask.tif"),
    ]
    assert pairs == folder.pair("all", "all")
    assert pairs == folder.pair("all", "all", naming=folder.FileNaming("", "_mask.tif"))


def test_every_mask_that_a_suffix_misses_is_named(tree):
    tree(["i/a_img.png", "i/b_img.png", "i/c_img.png"], ["m/b_seg.tif", "m/c.tif"])
    with pytest.raises(
        ValueError, match=r"a_img.png has no mask: looked for .*a_seg.tif"
    ) as e:
        folder.pair("i", "m", naming=CUSTOM)
    assert "c_img.png has no mask" in str(e.value)
    with pytest.raises(ValueError, match=r"i holds no image whose name ends in '.jpg'"):
        folder.pair("i", "m", naming=folder.FileNaming(".jpg"))


def test_what_a_folder_holds_beside_images_is_named(tmp_path):
    """Folders of images, containers, and what is no file: none is left out silently."""
    images = tmp_path / "i"
    for name in ("sub", "z.zarr", "empty"):
        (images / name).mkdir(parents=True)
    inside = images / "sub" / "b.tif"
    inside.touch()
    (images / "gone.tif").symlink_to("nowhere")
    assert folder.list_unread(images) == [
        "gone.tif (a link to nothing)",
        "sub (a folder of images: name it)",
        "z.zarr (an array container: export the image as TIFF)",
    ]
    with pytest.raises(ValueError, match=r"folders of images: sub; name one of these"):
        folder.list_images(images)
    with pytest.raises(FileNotFoundError, match=r"b\.tif is a file; name a folder of"):
        folder.list_images(inside)


@pytest.mark.parametrize(
    ("image", "mask"),
    [("img_07", "mask_07"), ("image-1b", "labels-1b"), ("IM3", "seg3")],
)
def test_numbered_masks_have_a_prefix(tmp_path, image, mask):
    """In two folders, in one, and as truth of a prediction of that image."""
    for name in (f"i/{image}.tif", f"m/{mask}.tif", f"b/{image}.tif", f"b/{mask}.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (pair,) = folder.pair(tmp_path / "i", tmp_path / "m")
    assert (pair.image.stem, pair.mask.stem) == (image, mask)
    (pair,) = folder.pair(tmp_path / "b", tmp_path / "b")
    assert (pair.image.suffix, pair.mask.suffix) == (".tif", ".png")
    assert names.common(f"{image}_labels") == names.common(mask)
    assert names.common(f"{image}0_labels") != names.common(mask)


FIELD = np.zeros((16, 20), np.uint8)
FIELD[:, :10] = 255


@pytest.mark.parametrize("field", ["f/a.png", "f/a_mask.tif", "f/A_FOV.png"])
def test_pixels_outside_of_the_field_of_view_are_not_annotated(tree, field):
    tree(["i/a.tif"], ["m/a.tif"])
    save(pathlib.Path(field), FIELD)
    (example,) = folder.load("i", "m", within="f")
    np.testing.assert_array_equal(example.label == -1, FIELD == 0)
    np.testing.assert_array_equal(example.label[:, :10], CELLS[:, :10] > 0)
    np.testing.assert_array_equal(example.instances, CELLS)  # as large as they are


def test_one_field_of_view_may_hold_for_all_images_and_pages(tree):
    tree(["i/a.tif"], ["m/a.tif", "m/b.tif"])
    save(pathlib.Path("i/b.tif"), photograph(0, 3, 16, 20))
    save(pathlib.Path("m/b.tif"), np.stack([CELLS] * 3))
    save(pathlib.Path("f.png"), FIELD)
    examples = folder.load("i", "m", within="f.png")
    assert len(examples) == 4
    assert all(((e.label == -1) == (FIELD == 0)).all() for e in examples)


def test_all_images_without_a_field_of_view_are_named(tree):
    images = [f"i/{name}.tif" for name in "abcd"]
    tree(images, [path.replace("i/", "m/") for path in images])
    save(pathlib.Path("f/b.tif"), FIELD)
    message = (
        r"^i/a\.tif, i/c\.tif, i/d\.tif have no field of view in f; that of a\.tif"
    )
    with pytest.raises(ValueError, match=message):
        folder.load("i", "m", within="f")


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        (["f/b.png"], (16, 20), r"i/a\.tif has no field of view in f; .* a_fov\.tif"),
        (["f/a.png", "f/a.tif"], (16, 20), r"i/a\.tif has several fields of view, f/a"),
        (["f/a.png"], (16, 21), r"of i/a\.tif has 16x21 pixels, the image 16x20; both"),
        (["f/a.tif"], (2, 16, 20), r"f/a\.tif holds 2 fields of view, the image 1 pag"),
    ],
)
def test_fields_of_view_that_do_not_fit_are_errors(tree, fields, shape, message):
    tree(["i/a.tif"], ["m/a.tif"])
    for field in fields:
        save(pathlib.Path(field), np.ones(shape, np.uint8))
    with pytest.raises(ValueError, match=message):
        folder.load("i", "m", within="f")
