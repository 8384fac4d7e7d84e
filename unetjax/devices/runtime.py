"""What an entry point sets before JAX starts: compiler flags and caches."""

import os

import jaxlib

# jaxlib versions known to accept the flag; an unknown flag aborts the process.
_YNN_VERSIONS = {"0.10.1", "0.10.2", "0.11.0", "0.12.0.1"}
_YNN_FLAG = "--xla_cpu_experimental_ynn_fusion_type="
_DETERMINISTIC_FLAG = "--xla_gpu_deterministic_ops="


def set_compiler_flags(*, deterministic: bool = False) -> None:
    """Appends to XLA_FLAGS what right and fast numbers need on the CPU.

    With its default fusions, jaxlib 0.10.2 computes some vmapped reductions wrongly
    (jax-ml/jax#39103) and runs float32 convolutions two to three times slower. To be
    called before the first computation; a value the user has set is respected.

    Args:
      deterministic: Whether a GPU shall compute equal programs to equal bits; slower.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if jaxlib.__version__ in _YNN_VERSIONS and _YNN_FLAG not in flags:
        flags = f"{flags} {_YNN_FLAG}"
    if deterministic and _DETERMINISTIC_FLAG not in flags:
        flags = f"{flags} {_DETERMINISTIC_FLAG}true"
    os.environ["XLA_FLAGS"] = flags.strip()


def check_deterministic(platform: str) -> None:
    """Refuses a platform that would not repeat a run bit for bit.

    Args:
      platform: Where it would be computed, such as `jax.default_backend()`.

    Raises:
      ValueError: On a GPU, if the compiler was not told in time.
    """
    flags = os.environ.get("XLA_FLAGS", "").split()
    if platform == "gpu" and f"{_DETERMINISTIC_FLAG}true" not in flags:
        raise ValueError(
            "config.deterministic needs the compiler flag "
            f"{_DETERMINISTIC_FLAG}true on a GPU: call "
            "unetjax.devices.runtime.set_compiler_flags(deterministic=True) before the "
            "first computation, or set XLA_FLAGS."
        )
