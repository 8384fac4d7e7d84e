"""Nuclei in fluorescence, Data Science Bowl 2018 (StarDist's subset).

The 50 images of the official test set are the test images. Of the other 447, a tenth
is drawn for validation.

Run:       python -m experiments.train --config=ml_collections_configs/dsb2018.py
               --workdir=runs/dsb2018
           On a machine without accelerator, a network with a sixteenth of the work:
           --config=ml_collections_configs/dsb2018.py:cpu
           Of folders: --config.data.name=folder
               --config.data.images=train/images --config.data.masks=train/labels
               --config.data.test_images=test/images
               --config.data.test_masks=test/labels
               --config.data.train= --config.data.test=
Sweep:     python -m experiments.sweep --config=ml_collections_configs/dsb2018.py
               --workdir=runs/dsb2018-sweep
Expected:  :cpu, 54 training and 15 validation images: AP at 0.5 of 0.752 +- 0.023 over
           three seeds, 0.565 +- 0.007 without the border term; ten minutes on one core
           of an x86-64 server. See docs/results.md. The network of 64 features was not
           run.
"""

from collections.abc import Iterator

import ml_collections


def get_config(machine: str = "") -> ml_collections.ConfigDict:
    """Returns the configuration; what it leaves out is as in paper.py.

    Args:
      machine: "cpu" for a network and a number of steps that suit two CPU cores.
    """
    config = ml_collections.ConfigDict()
    config.num_steps = 10_000  # ours
    config.evaluate_every = 1_000  # steps
    config.batch_size = 8  # tiles; ours
    config.tile_size = 348  # pixels, of which 260 are learned; ours
    config.input_scaling = ml_collections.ConfigDict()
    config.input_scaling.method = "percentile"  # ours: exposure differs between images
    config.best_metric = "mean_ap_pooled"  # ours
    config.model = ml_collections.ConfigDict(
        dict(features=64, depth=3, dropout_rate=0.2)
    )
    config.weight_map = ml_collections.ConfigDict(
        dict(separation_border="two_sided")
    )  # ours
    config.optimizer = ml_collections.ConfigDict(
        dict(name="adam", learning_rate=1e-3, schedule="cosine", warmup_steps=50)
    )

    config.data = ml_collections.ConfigDict()
    config.data.name = "dsb2018"
    config.data.train = "train"
    config.data.test = "test"
    config.data.validation_fraction = 0.1

    config.instances = ml_collections.ConfigDict()
    config.instances.min_size = 15  # pixels
    config.instances.fill_holes = True

    if machine == "cpu":
        config.num_steps = 4_000
        config.evaluate_every = 500
        config.batch_size = 1
        config.tile_size = 220  # pixels, of which 132 are learned
        config.model.features = 16
        config.optimizer.learning_rate = 2e-3
    return config


def sweep() -> Iterator[dict[str, object]]:
    """Yields the overrides of one run each: with and without the border term."""
    for w0 in (0.0, 10.0):
        for seed in range(3):
            yield {"weight_map.w0": w0, "seed": seed}
