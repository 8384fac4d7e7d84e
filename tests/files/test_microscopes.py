"""CZI files, which pylibCZIrw writes and bioio reads."""

import numpy as np
import pytest
import tifffile

from tests import commands
from unetjax.files import images, microscopes
from unetjax.inference.trained_model import TrainedModel
from unetjax.model_io import model_folder
from unetjax.network.unet import UNet

STACK = np.random.default_rng(0).integers(0, 4000, (2, 3, 2, 40, 50), np.uint16)
needs_bioio = pytest.mark.skipif(
    not microscopes.is_installed(), reason="bioio, which reads CZI, is not installed"
)


def write_czi(path, planes, channels=("DAPI", "GFP")):
    """Writes planes [T, Z, C, H, W], or [T, Z, C, H, W, 3] of colours."""
    reason = "pylibCZIrw, which writes CZI, is not installed"
    czi = pytest.importorskip("pylibCZIrw.czi", reason=reason)
    with czi.create_czi(str(path)) as file:
        for t, z, c in np.ndindex(planes.shape[:3]):
            plane = planes[t, z, c]
            plane = plane[..., None] if plane.ndim == 2 else plane
            file.write(plane, plane={"T": t, "Z": z, "C": c})
        file.write_metadata(
            document_name=path.stem,
            channel_names=dict(enumerate(channels)),
            scale_x=2e-7,
            scale_y=3e-7,
        )


@needs_bioio
@pytest.mark.filterwarnings("ignore")  # from what bioio imports
def test_sections_channels_and_pixel_size(tmp_path):
    write_czi(tmp_path / "a.czi", STACK)
    found = images.read_stack(tmp_path / "a.czi")
    np.testing.assert_array_equal(
        found, np.moveaxis(STACK.reshape(6, 2, 40, 50), 1, -1)
    )
    metadata = images.read_metadata(tmp_path / "a.czi")
    assert (metadata.axes, metadata.shape) == ("TZ", (2, 3))
    assert metadata.channels == ("DAPI", "GFP")
    assert metadata.micrometres == pytest.approx((0.3, 0.2))
    (gfp,) = images.read_stack(tmp_path / "a.czi", channels=["GFP"])[:1]
    np.testing.assert_array_equal(gfp[..., 0], STACK[0, 0, 1])


@needs_bioio
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_end_in_one_sentence(tmp_path):
    for suffix in microscopes.SUFFIXES:
        path = tmp_path / f"a{suffix}"
        path.write_bytes(b"ZISRAWFILE" + bytes(500))
        with pytest.raises(ValueError, match=r"a\.\w+ cannot be read by bioio \(.*\)"):
            images.read_stack(path)
        assert images.read_metadata(path).shape == ()
    write_czi(tmp_path / "cut.czi", STACK)
    content = (tmp_path / "cut.czi").read_bytes()
    (tmp_path / "cut.czi").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cut\.czi cannot be read by bioio"):
        images.read_stack(tmp_path / "cut.czi")


@needs_bioio
@pytest.mark.filterwarnings("ignore")
def test_a_czi_is_segmented_section_by_section(tmp_path, make_variables):
    """The labels have the axes and the pixel size of the file."""
    write_czi(tmp_path / "a.czi", STACK[:1, :, :1], channels=["DAPI"])
    model = UNet(features=2, depth=1)
    trained = TrainedModel(model, make_variables(model)["params"])
    model_folder.save_model(tmp_path / "model", trained)
    args = ["predict", tmp_path / "model", tmp_path / "a.czi", "--out", tmp_path / "o"]
    done = commands.in_process("unetjax.cli.main", *args)
    assert done.returncode == 0, done.stderr
    labels = tmp_path / "o" / "a_mask.tif"
    with tifffile.TiffFile(labels) as file:
        assert file.series[0].axes == "ZYX"
        assert file.series[0].shape == (3, 40, 50)
    assert images.read_metadata(labels).micrometres == pytest.approx((0.3, 0.2))


def test_without_bioio_it_is_said_how_to_read_them(tmp_path, monkeypatch):
    monkeypatch.setattr(microscopes, "is_installed", lambda: False)
    (tmp_path / "a.nd2").write_bytes(b"x")
    assert not images.is_image("a.nd2")
    with pytest.raises(ValueError, match=r"pip install 'unetjax\[microscopes\]'; acc"):
        images.read_stack(tmp_path / "a.nd2")
