"""What the wheel holds, which is all that users have."""

import os
import pathlib
import subprocess
import sys
import tarfile
import venv
import zipfile

import pytest

import unetjax

ROOT = pathlib.Path(__file__).parents[1]
VERSION = f"{unetjax.__version__}\n"

# The README's lines for Python, a report with its stylesheet, and the types.
PROGRAM = """
import pathlib, sys
import jax, jax.numpy as jnp, numpy as np
import unetjax

package = pathlib.Path(unetjax.__file__).parent
assert package.is_relative_to(sys.argv[1]), package
assert (package / "py.typed").exists()
assert (package / "__init__.pyi").exists()
assert (package / "viewer" / "page" / "main.js").exists()

network = unetjax.UNet(features=2, depth=1)
init = jax.jit(lambda key: network.init(key, jnp.zeros((1, 20, 20, 1)), train=False))
params = init(jax.random.key(0))["params"]
unetjax.save_model("model", unetjax.TrainedModel(network, params))
model = unetjax.load_model("model")
image = np.random.default_rng(0).integers(0, 255, (50, 41), np.uint8)
segmentation = unetjax.segment(model, image)
assert segmentation.label.shape == segmentation.instances.shape == (50, 41)
np.testing.assert_array_equal(model.predict(image), segmentation.probs)

from unetjax.reporting import report
report.write_report(pathlib.Path("report.html"), title="title")
assert "font" in pathlib.Path("report.html").read_text()
print(unetjax.__version__)
"""


# As python -m unetjax.experiments.train, where there is no checkout with `experiments`.
LAUNCHER = """
import runpy, sys
sys.modules["experiments"] = None
runpy.run_module("unetjax.experiments.train", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    build = ["hatchling", "build", "--directory", folder]
    subprocess.run([sys.executable, "-m", *build], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def wheel(dist):
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """A folder with the wheel, to use with the dependencies of this environment."""
    folder = tmp_path_factory.mktemp("site")
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([sys.executable, *install, folder, wheel], check=True)
    return folder


def test_the_wheel_holds_sources_launchers_configs_and_nothing_else(wheel):
    packages = ("unetjax", "experiments", "ml_collections_configs")
    expected = {
        f"unetjax/{path.relative_to(ROOT)}".replace("unetjax/unetjax/", "unetjax/")
        for package in packages
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if name.startswith("unetjax/")} == expected
    rest = {name.partition(".dist-info/")[2] for name in names - expected}
    files = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    assert rest == files


def test_the_sdist_holds_sources_tests_and_documentation(dist):
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    folders = {name.split("/")[0] for name in names if "/" in name}
    packages = {"unetjax", "experiments", "ml_collections_configs"}
    assert folders == packages | {"tests", "docs"}
    files = {name for name in names if "/" not in name}
    assert {"LICENSE", "PKG-INFO", "README.md", "pyproject.toml", "Makefile"} <= files
    assert not [name for name in names if "__pycache__" in name]


def test_public_functions_work_from_the_wheel(site, tmp_path):
    assert run(sys.executable, tmp_path, site, PYTHONPATH=str(site)) == VERSION


def test_launchers_and_configs_work_from_the_wheel(site, tmp_path):
    """In a folder without either, under the name that the package has there."""
    small = (
        *("model.depth=1", "model.features=2", "tile_size=20", "batch_size=1"),
        *("augmentation.elastic_sigma=0", "weight_map.w0=0", "optimizer.name=sgd"),
    )
    config = "--config=ml_collections_configs/smoke.py"
    options = ["--dry_run", *(f"--config.{option}" for option in small)]
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, config, *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "GFLOP for a tile of 20x20x1" in done.stdout


@pytest.mark.slow
def test_the_wheel_brings_its_dependencies(wheel, tmp_path):
    """Into an empty environment; needs a package index."""
    site = tmp_path / "environment"
    venv.create(site, with_pip=True)
    python = site / ("Scripts" if os.name == "nt" else "bin") / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True)
    assert run(python, tmp_path, site, PYTHONPATH="") == VERSION


def run(python, folder, site, **env):
    """Runs the program in a folder; returns what it prints."""
    command = [python, "-c", PROGRAM, str(site)]
    env = {**os.environ, **env}
    return subprocess.run(
        command, cwd=folder, env=env, check=True, text=True, stdout=subprocess.PIPE
    ).stdout
