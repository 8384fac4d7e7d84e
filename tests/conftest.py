"""JAX settings for every test, and what tests share."""

import functools
import os
import pathlib
import sys

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from unetjax.devices import runtime

# Modules are compiled once, also where the environment says otherwise: tests start many
# processes, and without bytecode each takes three times as long to start.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Equal programs, small ones included, are compiled once, also by the processes that
# tests start.
CACHE = pathlib.Path(__file__).parents[1] / ".pytest_cache" / "xla"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compilation takes nearly all of the time, and the arrays are small: without LLVM's
# optimisations, without fusion emitters (which go through MLIR) and with one module for
# each program it takes a quarter of it. XLA_FLAGS="" tests as users compile.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1",
)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

runtime.set_compiler_flags()
jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real annotated images that lies beside a development checkout."""
    folder = pathlib.Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real images: {folder} is absent")
    return folder


@pytest.fixture
def as_installed():
    """Switches off the run-time type checks of the test suite, to see users' errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def make_variables():
    """A function from a model to random variables, once for each model and session.

    Without initialisers, whose compilation would take the time.
    """
    return functools.cache(_variables)


def _variables(model, channels=1):
    side = model.geometry.input_size(1)
    image = jnp.zeros((1, side, side, channels))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))
    rng = np.random.default_rng(0)

    def draw(leaf):
        if len(leaf.shape) == 1:  # biases; scales and variances must be positive
            return rng.uniform(0.5, 1.0, leaf.shape).astype(np.float32)
        deviation = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return rng.normal(0, deviation, leaf.shape).astype(np.float32)

    return jax.tree.map(draw, shapes)
