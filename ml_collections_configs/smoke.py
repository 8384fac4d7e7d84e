"""Smoke test: a tiny network on synthetic cells, done in seconds on two cores.

Run:       python -m experiments.train --config=ml_collections_configs/smoke.py
               --workdir=runs/smoke
Expected:  it finishes; the scores mean nothing.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration; what it leaves out is as in paper.py."""
    config = ml_collections.ConfigDict()
    config.num_steps = 20
    config.log_every = 5  # steps
    config.evaluate_every = 10  # steps
    config.batch_size = 2  # tiles
    config.tile_size = 92  # pixels, of which 52 are learned
    config.model = ml_collections.ConfigDict(dict(features=4, depth=2))
    config.optimizer = ml_collections.ConfigDict(dict(name="adam", learning_rate=1e-3))
    config.augmentation = ml_collections.ConfigDict(dict(elastic_sigma=4.0))  # pixels
    config.data = ml_collections.ConfigDict(dict(name="synthetic", num_images=4))
    config.input_scaling = ml_collections.ConfigDict()
    config.input_scaling.method = "percentile"
    return config
