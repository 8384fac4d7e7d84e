"""The pictures of docs/paper.md are those that the command draws today."""

import pathlib

import numpy as np
from PIL import Image

from experiments import figures
from unetjax import UNet

PICTURES = pathlib.Path(__file__).parents[2] / "docs" / "pictures"


def stored(name):
    return np.asarray(Image.open(PICTURES / name).convert("RGB")).astype(float)


def test_the_network_of_the_documentation_is_the_papers():
    """Sides and channels of Fig. 1 come from the arrays of the network."""
    drawn = figures.network(UNet())
    assert drawn == (PICTURES / "network.svg").read_text()
    for text in (">572&#178;<", ">568&#178;<", ">28&#178;<", ">1024<", ">388&#178;<"):
        assert text in drawn
    assert figures.network(UNet(depth=3)) != drawn


def test_tiles_and_losses_are_drawn_as_stored():
    np.testing.assert_array_equal(figures.overlap(), stored("overlap.png"))
    # The last bits of a map, and so a grey level, depend on the processor.
    assert np.abs(figures.energy() - stored("energy.png")).mean() < 1


def test_pictures_are_not_overwritten(tmp_path, capsys):
    (tmp_path / "overlap.png").write_bytes(b"mine")
    assert figures.main([f"--out={tmp_path}"]) == 2
    assert "overlap.png" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["overlap.png"]
