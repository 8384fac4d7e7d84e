"""The house rules of imports, read off the source."""

import ast
import graphlib
import pathlib
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "unetjax"
FLOORS = (
    {"suggestions"},
    {"geometry", "settings", "signals"},
    {"targets"},
    {"network", "losses", "weight_maps", "augmentation", "metrics", "instances"},
    {"files"},
    {"devices", "annotations"},
    {"data", "inference", "reporting"},
    {"model_io", "large"},
    {"evaluation"},
    {"training", "viewer"},
    {"sweeps"},
    {"cli"},
    {"__main__"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
HOME = {  # libraries that may be named in some places only
    "orbax": ("training.checkpoints",),
    "tensorflow_datasets": ("data.datasets",),
    "tensorstore": ("large.arrays",),
    "tifffile": ("files",),
    "PIL": ("files", "reporting"),
    "scipy": (
        *("weight_maps.reference", "metrics", "instances", "targets"),
        *("evaluation.shifts", "large"),
    ),
    "skimage": (
        *("instances", "inference", "data", "targets", "large"),
        "reporting.pictures",
    ),
    "safetensors": ("model_io.state_dicts",),
    "torch": ("model_io.state_dicts",),
    "shtab": ("cli.terminal",),
    "argparse": ("cli",),
    "mlflow": ("reporting",),
    "bioimageio": ("model_io.bioimageio",),
    "bioio": ("files.microscopes",),
    "loguru": ("model_io.bioimageio",),
    "onnx": ("model_io.onnx",),
    "onnxruntime": ("model_io.onnx", "model_io.bioimageio"),
    "openvino": ("model_io.openvino",),
    "tensorboardX": ("reporting",),
    "wandb": ("reporting",),
    "rich": ("reporting",),
    "roifile": ("reporting.regions", "annotations.reading"),
    "optuna": ("sweeps.search",),
    "ray": ("sweeps.ray_tasks",),
}
FOREIGN = {
    "absl",
    "chex",
    "clu",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "matplotlib",
    "ml_collections",
    "pickle",
    "shelve",
    "tensorflow",
}
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"  # the one module that sees every floor
}


def imports(path):
    """Every name a module imports, in full; plain `import a.b` as a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    room = module.split(".")[0]
    for name in imports(MODULES[module]):
        package, *rest = name.split(".")
        assert package not in FOREIGN, f"{module} imports {name}"
        homes = HOME.get(package, ("",))
        assert module.startswith(homes), f"{module} imports {name}"
        if package == "unetjax" and rest[0] != room:
            assert FLOOR[rest[0]] < FLOOR[room], f"{module} imports {name}"
    assert not any(
        n.startswith(("flax.training", "flax.jax_utils"))
        for n in imports(MODULES[module])
    )


@pytest.mark.parametrize(
    "room", sorted({p.parent.name for p in PACKAGE.glob("*/*.py")})
)
def test_a_room_has_at_most_14_files(room):
    assert len(list((PACKAGE / room).glob("*.py"))) <= 14


def test_every_room_with_arrays_is_type_checked_in_tests():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (option,) = (
        word
        for word in settings["tool"]["pytest"]["ini_options"]["addopts"]
        if word.startswith("--jaxtyping-packages=")
    )
    *packages, checker = option.partition("=")[2].split(",")
    rooms = {
        module.split(".")[0]
        for module, path in MODULES.items()
        if any(name.startswith("jaxtyping.") for name in imports(path))
    }
    assert set(packages) == {f"unetjax.{room}" for room in rooms - {"settings"}}
    assert checker == "beartype.beartype"


def test_no_module_imports_itself_in_the_end():
    graph = {
        module: [
            m
            for n in imports(path)
            for m in MODULES
            if f"{n}.".startswith(f"unetjax.{m}.")
        ]
        for module, path in MODULES.items()
    }
    graphlib.TopologicalSorter(graph).prepare()  # a CycleError names the circle


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_executed_that_was_read(module):
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec"), f"{module}:{node.lineno}"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            allowed = isinstance(node.value, ast.Constant) and node.value.value
            assert not allowed, f"{module}: allow_pickle"


@pytest.mark.parametrize("module", MODULES)
def test_only_devices_names_devices(module):
    if not module.startswith("devices."):
        said = {"pmap", "sharding", "shard_map", "distributed"}
        used = {
            node.attr
            for node in ast.walk(ast.parse(MODULES[module].read_text()))
            if isinstance(node, ast.Attribute)  # code, not docstrings
            and isinstance(node.value, ast.Name)
            and node.value.id == "jax"
        }
        used |= {n.split(".")[1] for n in imports(MODULES[module]) if n[:4] == "jax."}
        assert not said & used


def test_import_is_light():
    """No heavy library, no device, in a fresh interpreter, for all public names.

    SciPy and scikit-image come with `TrainedModel` and `segment` only.
    """
    code = """
import sys
import unetjax
assert "jax" not in sys.modules  # a program may still choose how to start
from unetjax import UNet, augment, presets, separation_weight_map, soft_dice
from unetjax import predict, train_step, weighted_cross_entropy
assert UNet().depth == 4
assert not {"scipy", "skimage"} & set(sys.modules)
from unetjax import *
heavy = {"tensorflow", "tensorflow_datasets", "orbax", "matplotlib",
         "tensorstore"} & set(sys.modules)
assert not heavy, heavy
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
