"""The toy problem of jakeret/tf_unet with its network and its training: discs in noise.

Run:       python -m experiments.train --config=ml_collections_configs/tf_unet.py
               --workdir=runs/tf_unet
Expected:  1.4 % of the pixels of new images wrong, where 5.1 % are published; 6 minutes
           of processor time on two cores. See docs/tf_unet.md.
"""

import ml_collections

STEPS = 32  # of an epoch: "training_iters" there
EPOCHS = 5


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration; what it leaves out is as in paper.py."""
    config = ml_collections.ConfigDict()
    config.num_steps = EPOCHS * STEPS
    config.log_every = 2  # steps: "display_step" there
    config.evaluate_every = STEPS
    config.batch_size = 1  # tiles
    config.tile_size = 572  # pixels, of which 532 are learned
    config.input_scaling = ml_collections.ConfigDict()
    config.input_scaling.method = "minmax"
    config.best_metric = "accuracy"  # ours: no best model is kept there

    config.model = ml_collections.ConfigDict()
    config.model.features = 16  # "features_root" there
    config.model.depth = 2  # "layers" there, less 1
    config.model.dropout_rate = 0.25  # to drop; "dropout" there is to keep
    config.model.dropout_sites = "every_conv"
    config.model.up_activation = True
    config.model.kernel_init = "truncated_he"
    config.model.bias_init = 0.1

    config.loss = ml_collections.ConfigDict()
    config.loss.reduction = "mean"

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.learning_rate = 0.2
    config.optimizer.momentum = 0.2
    config.optimizer.schedule = "staircase"
    config.optimizer.decay_rate = 0.95
    config.optimizer.decay_steps = STEPS
    config.optimizer.clip_norm = 0.5  # ours: without it a single tile can diverge

    config.weight_map = ml_collections.ConfigDict()
    config.weight_map.w0 = 0.0  # no border term
    config.weight_map.separation_border = "none"
    config.weight_map.class_balance = "none"

    config.augmentation = ml_collections.ConfigDict()
    config.augmentation.rotation = 0.0
    config.augmentation.flip = False
    config.augmentation.elastic_sigma = 0.0
    config.augmentation.contrast = 0.0

    config.data = ml_collections.ConfigDict()
    config.data.name = "discs"
    config.data.num_images = 72
    config.data.train = ":64"
    config.data.validation = "64:"

    config.instances = ml_collections.ConfigDict()
    config.instances.min_size = 40  # pixels, half of the smallest disc
    return config
