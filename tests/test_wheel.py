"""What the wheel holds, which is all that users have."""

import os
import pathlib
import subprocess
import sys
import venv

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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = ["hatchling", "build", "--target", "wheel", "--directory", folder]
    subprocess.run([sys.executable, "-m", *build], cwd=ROOT, check=True)
    (path,) = folder.glob("*.whl")
    return path


def test_public_functions_work_from_the_wheel(wheel, tmp_path):
    """With the dependencies of this environment, but not its unetjax."""
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    site = tmp_path / "site"
    subprocess.run([sys.executable, *install, site, wheel], check=True)
    assert run(sys.executable, tmp_path, site, PYTHONPATH=str(site)) == VERSION


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
