"""`--channels`: a model stores those of its training, and predict reads them."""

import numpy as np
import pytest
import tifffile

from unetjax.cli import main
from unetjax.data import synthetic
from unetjax.files import images
from unetjax.model_io import model_folder

SMALL = (
    *("--set", "model.depth=1", "--set", "tile_size=20"),
    *("--set", "augmentation.elastic_sigma=0", "--set", "weight_map.w0=0"),
)


def write_colours(folder, indices):
    """Cells in the green channel, noise in the others."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in indices:
        cells = synthetic.touching_cells(0, i, size=(48, 56), num_cells=4, radius=6.0)
        pixels = rng.integers(0, 4000, (48, 56, 3), np.uint16)
        pixels[..., 1:2] = cells.image
        images.write_image(folder / "images" / f"{i}.tif", pixels)
        images.write_labels(folder / "masks" / f"{i}.tif", cells.instances)
    return str(folder / "images"), str(folder / "masks")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("colours")
    data = write_colours(folder / "own", range(3))
    out = folder / "model"
    argv = ["train", *data, "--out", str(out), "--channels", "1", *SMALL]
    assert main.main([*argv, "--steps", "2", "--features", "2"]) == 0
    return out


def predict(model, image, out, *options):
    argv = ["predict", str(model), str(image), "--out", str(out), "--probabilities"]
    status = main.main([*argv, *options])
    return None if status else images.read_image(next(out.glob("*_probs.tif")))


def test_predict_reads_the_channels_of_the_training(model, tmp_path, capsys):
    """Of a file with all channels; a file with these alone is used as it is."""
    assert model_folder.load_model(model).selected_channels == ("1",)
    assert "of the files: 1" in (model / "model" / "README.md").read_text()
    assert main.main(["info", str(model)]) == 0
    assert "of files:     channels 1" in capsys.readouterr().out
    colours, _ = write_colours(tmp_path / "new", [7])
    pixels = images.read_image(f"{colours}/7.tif")
    images.write_image(tmp_path / "green.tif", pixels[..., 1:2])
    whole = predict(model, f"{colours}/7.tif", tmp_path / "a")
    green = predict(model, tmp_path / "green.tif", tmp_path / "b")
    np.testing.assert_array_equal(whole, green)
    blue = predict(model, f"{colours}/7.tif", tmp_path / "c", "--channels", "2")
    assert np.abs(blue - green).max() > 1e-3


def test_missing_channels_are_named(model, tmp_path, capsys):
    colours, _ = write_colours(tmp_path / "new", [7])
    path = f"{colours}/7.tif"
    assert predict(model, path, tmp_path / "a", "--channels", "3") is None
    assert "7.tif has no channel '3'; its channels are 0, 1, 2" in (
        capsys.readouterr().err
    )
    assert predict(model, path, tmp_path / "a", "--channels", "0,1") is None
    assert "has 2 channels, but the model" in capsys.readouterr().err


def test_check_takes_names_of_channels(tmp_path, capsys):
    colours, masks = write_colours(tmp_path / "new", [7])
    path = f"{colours}/7.tif"
    pixels = np.moveaxis(images.read_image(path), -1, 0)
    names = {"axes": "CYX", "Channel": {"Name": ["GFP", "DAPI", "RFP"]}}
    tifffile.imwrite(path, pixels, ome=True, photometric="minisblack", metadata=names)
    assert main.main(["check", colours, masks, "--channels", "DAPI,2"]) == 0
    assert "uint16, 2 channels; masks" in capsys.readouterr().out
    assert main.main(["check", colours, masks, "--channels", "CY5"]) == 2
    assert "no channel 'CY5'; its channels are 0 (GFP), 1 (DAPI), 2 (RFP)" in (
        capsys.readouterr().out
    )
    assert main.main(["check", colours, masks, "--channels", "1,1"]) == 2
    assert "must be different channels such as 0,2" in capsys.readouterr().err
