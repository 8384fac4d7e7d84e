"""Glioblastoma cells in phase contrast, PhC-C2DH-U373: the paper's second experiment.

Cell Tracking Challenge. Sequence 01 trains, sequence 02 validates.

Run:       python -m experiments.train --config=ml_collections_configs/phc_u373.py
               --workdir=runs/phc_u373
Expected:  the paper reports a mean IoU of 0.9203 on the challenge's secret labels.
           Not run here yet: it takes an accelerator.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration; what it leaves out is as in paper.py."""
    config = ml_collections.ConfigDict()
    config.num_steps = 30_000  # ours
    config.evaluate_every = 1_000  # steps
    config.input_scaling = ml_collections.ConfigDict()
    config.input_scaling.method = "percentile"  # ours: exposure differs between movies
    config.best_metric = "mean_ap_pooled"  # ours

    config.data = ml_collections.ConfigDict()
    config.data.name = "phc_u373"
    config.data.train = "01"
    config.data.validation = "02"

    config.instances = ml_collections.ConfigDict()
    config.instances.min_size = 500  # pixels, as in the authors' release
    return config
