import re
import subprocess
import sys

import numpy as np
import pytest

from unetjax.files import images, limits
from unetjax.inference.trained_model import TrainedModel
from unetjax.model_io import model_folder
from unetjax.network.unet import UNet


def test_the_claimed_size_is_bounded_by_the_file_size(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(bytes(100))
    limits.check_size(path, 100 * 10_000)
    with pytest.raises(
        ValueError, match=r"claims 976\.6 KiB of pixels, the file has 100"
    ):
        limits.check_size(path, 100 * 10_000 + 1)


def test_the_claimed_size_is_bounded_by_the_memory(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    path.write_bytes(bytes(100))
    monkeypatch.setattr(limits, "installed_memory", lambda: 2048)
    limits.check_size(path, 1024)
    with pytest.raises(
        ValueError, match=r"a\.tif needs 1\.0 KiB of memory, .* 2\.0 KiB"
    ):
        limits.check_size(path, 1025)
    monkeypatch.setattr(limits, "installed_memory", lambda: None)
    limits.check_size(path, 1025)


def test_the_memory_of_this_machine_is_plausible():
    assert limits.installed_memory() > 2**28


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (25 * 10**14, "2273.7 TiB"),
    ],
)
def test_sizes_have_binary_units(num_bytes, text):
    assert limits.format_bytes(num_bytes) == text


LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
from unetjax.cli import command
from unetjax.files import limits
assert limits.installed_memory() == limits.address_space() == 2**30
raise SystemExit(command.run_command(lambda: print("never")))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="ulimit")
def test_a_limit_of_the_process_counts_and_too_low_a_one_is_refused():
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED], capture_output=True, text=True
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    assert ended.stderr == (
        "error: this process may use 1.0 GiB of memory, and needs 2.5 GiB; raise the "
        "limit (ulimit -v).\n"
    )


PREDICTS = """
import resource, sys
from unetjax.cli import main
folder = sys.argv[1]
def predict(name):
    files = [f"{folder}/{each}" for each in ("model", name)]
    out = f"{folder}/{name}.out"
    return main.main(["predict", *files, "--engine", "jax", "--out", out])
assert predict("small.tif") == 0
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 1_200_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
raise SystemExit(predict(sys.argv[2]))
"""


@pytest.mark.skipif(not limits._TAKEN.exists(), reason="no /proc")
@pytest.mark.slow
def test_predictions_keep_below_the_limit_of_addresses(tmp_path, make_variables):
    """Beyond it, XLA would abort the process without a word of the image."""
    model = UNet(features=16, depth=3)
    trained = TrainedModel(model, make_variables(model)["params"])
    model_folder.save_model(tmp_path / "model", trained)
    for name, side in (("small", 40), ("fits", 1300), ("large", 2400)):
        pixels = np.random.default_rng(0).integers(0, 255, (side, side, 1), np.uint8)
        images.write_image(tmp_path / f"{name}.tif", pixels)

    def run(name):
        return subprocess.run(
            [sys.executable, "-c", PREDICTS, str(tmp_path), name],
            capture_output=True,
            text=True,
        )

    ended = run("fits.tif")
    assert ended.returncode == 0, ended.stderr
    ended = run("large.tif")
    assert ended.returncode == 2, ended.stderr
    assert re.fullmatch(
        r"error: \S+large\.tif takes 1\.\d GiB of memory, and this process may take "
        r"1\.\d GiB more; raise the limit \(ulimit -v\)\.\n",
        ended.stderr,
    )
    assert not (tmp_path / "large.tif.out" / "large_labels.tif").exists()
