"""JAX settings for every test, and what tests share."""

import os
import pathlib

import jax
import jaxtyping
import pytest

from unetjax.devices import runtime

# Equal programs are compiled once, also by the processes that tests start.
CACHE = pathlib.Path(__file__).parents[1] / ".pytest_cache" / "xla"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

runtime.set_compiler_flags()
jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
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
