"""Simulated nuclei in fluorescence, Fluo-N2DH-SIM+ of the Cell Tracking Challenge.

The annotation is exact, as the cells are simulated. Sequence 01 trains, 02 validates.

Run:       python -m experiments.train --config=ml_collections_configs/fluo_sim.py
               --workdir=runs/fluo_sim
           On a machine without accelerator, a network with a sixteenth of the work:
           --config=ml_collections_configs/fluo_sim.py:cpu
Scores:    python -m experiments.evaluate --config=ml_collections_configs/fluo_sim.py
               --workdir=runs/fluo_sim --scores=tracking
Expected:  :cpu, seven frames of 01 for training, three for validation: SEG 0.796 +-
           0.020 and DET 0.973 +- 0.007 over three seeds; 4 to 7 minutes on one core of
           an x86-64 server. See docs/results.md. The network of 64 features was not
           run.
"""

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
    config.input_scaling.method = "percentile"  # ours: exposure differs between frames
    config.best_metric = "mean_ap_pooled"  # ours
    config.model = ml_collections.ConfigDict(
        dict(features=64, depth=3, dropout_rate=0.2)
    )
    config.optimizer = ml_collections.ConfigDict(
        dict(name="adam", learning_rate=1e-3, schedule="cosine", warmup_steps=50)
    )

    config.data = ml_collections.ConfigDict()
    config.data.name = "fluo_sim"
    config.data.train = "01"
    config.data.validation = "02"

    config.instances = ml_collections.ConfigDict()
    config.instances.min_size = 50  # pixels
    config.instances.fill_holes = True

    if machine == "cpu":
        config.num_steps = 2_000
        config.evaluate_every = 500
        config.batch_size = 1
        config.tile_size = 220  # pixels, of which 132 are learned
        config.model.features = 16
        config.optimizer.learning_rate = 2e-3
    return config
