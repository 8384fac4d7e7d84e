"""What an entry point sets before JAX starts: compiler flags and caches."""

import os

import jaxlib

# jaxlib versions known to accept the flag; an unknown flag aborts the process.
_YNN_VERSIONS = {"0.10.1", "0.10.2", "0.11.0", "0.12.0.1"}
_YNN_FLAG = "--xla_cpu_experimental_ynn_fusion_type="


def set_compiler_flags() -> None:
    """Appends to XLA_FLAGS what right and fast numbers need on the CPU.

    With its default fusions, jaxlib 0.10.2 computes some vmapped reductions wrongly
    (jax-ml/jax#39103) and runs float32 convolutions two to three times slower. To be
    called before the first computation; a value the user has set is respected.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if jaxlib.__version__ in _YNN_VERSIONS and _YNN_FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_YNN_FLAG}".strip()
