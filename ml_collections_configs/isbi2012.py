"""Neuronal structures in electron microscopy, ISBI 2012: the paper's first experiment.

30 annotated slices of 512x512, of which the last six are for validation. Membranes are
background, the insides of cells class 1.

Run:       python -m experiments.train --config=ml_collections_configs/isbi2012.py
               --workdir=runs/isbi2012
           On a machine without accelerator, a network with a sixteenth of the work:
           --config=ml_collections_configs/isbi2012.py:cpu
           Of a folder of slices: --config.data.name=folder --config.data.images=IMAGES
               --config.data.masks=LABELS --config.data.train=:20
               --config.data.validation=20:
Sweep:     python -m experiments.sweep --config=ml_collections_configs/isbi2012.py
               --workdir=runs/isbi2012-sweep
Expected:  :cpu, slices 0-19 for training, 20-23 for validation: V_rand 0.939 +- 0.009
           and V_info 0.965 +- 0.003 over three seeds, 0.958 and 0.970 with
           --tta=d4; 16 to 20 minutes on one core of an x86-64 server. See
           docs/results.md. The network of 64 features was not run.
"""

from collections.abc import Iterator

import ml_collections


def get_config(machine: str = "") -> ml_collections.ConfigDict:
    """Returns the configuration; what it leaves out is as in paper.py.

    Args:
      machine: "cpu" for a network and a number of steps that suit two CPU cores.
    """
    config = ml_collections.ConfigDict()
    config.num_steps = 30_000  # ours
    config.evaluate_every = 1_000  # steps
    config.tile_size = 572  # pixels
    config.model = ml_collections.ConfigDict(dict(features=64, depth=4))
    config.optimizer = ml_collections.ConfigDict(dict(learning_rate=1e-3))  # ours

    config.data = ml_collections.ConfigDict()
    config.data.name = "isbi2012"
    config.data.train = "train[:24]"
    config.data.validation = "train[24:]"

    if machine == "cpu":
        config.num_steps = 3_000
        config.tile_size = 316  # pixels, of which 228 are learned
        config.model = ml_collections.ConfigDict(
            dict(features=16, depth=3, dropout_rate=0.2)
        )
        config.optimizer = ml_collections.ConfigDict(
            dict(name="adam", learning_rate=2e-3, schedule="cosine", warmup_steps=50)
        )
    return config


def sweep() -> Iterator[dict[str, object]]:
    """Yields the overrides of one run each."""
    for w0 in (0.0, 5.0, 10.0):
        for seed in range(3):
            yield {"weight_map.w0": w0, "seed": seed}
