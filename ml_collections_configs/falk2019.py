"""The authors' later software, a plugin for Fiji (Falk et al. 2019).

Leaky ReLUs, no dropout, Adam, a weight map that raises the surroundings of every cell,
tiles centred on cells, deformation by a B-spline.
Features and depth are the user's there; these are the paper's.

Run:  python -m experiments.train --config=ml_collections_configs/falk2019.py
          --config.data.images=IMAGES --config.data.masks=MASKS --workdir=runs/falk2019
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration; what it leaves out is as in paper.py."""
    config = ml_collections.ConfigDict()
    config.num_steps = 600_000  # the most
    config.evaluate_every = 2_000  # steps; ours
    config.input_scaling = ml_collections.ConfigDict()
    config.input_scaling.method = "minmax"  # to [0, 1]; less 0.5, see model.input_shift

    config.model = ml_collections.ConfigDict()
    config.model.negative_slope = 0.1  # leaky ReLU
    config.model.up_activation = True
    config.model.concat_order = "up_first"
    config.model.dropout_rate = 0.0
    config.model.input_shift = -0.5
    config.model.kernel_init = "release2015"  # up-convolutions: N = 4 x output channels

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-5
    config.optimizer.bias_rate = 2.0  # of the learning rate

    config.weight_map = ml_collections.ConfigDict()
    config.weight_map.w0 = 50.0
    config.weight_map.sigma = 6.0  # pixels
    config.weight_map.near = 0.9  # 1 - v, v = 0.1 weighing background far from cells
    config.weight_map.near_sigma = 10.0  # pixels
    config.weight_map.class_balance = (0.1, 1.0)  # v and foreground

    config.augmentation = ml_collections.ConfigDict()
    config.augmentation.flip = False
    config.augmentation.elastic = "bspline"  # control points 150 pixels apart
    config.augmentation.curve_points = 5

    config.sampling = ml_collections.ConfigDict()
    config.sampling.centers = "weighted"  # 1 on cells, v on background, 0 on ignored
    config.sampling.background = 0.1  # v
    config.sampling.jitter = 8.0  # pixels: half a period at depth 4
    return config
