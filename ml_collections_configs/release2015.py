"""The network of the authors' Caffe release of 2015, with the paper's training.

Its last up-convolution keeps 128 channels, ReLUs follow the up-convolutions, which come
first in the concatenations, and dropout reaches the deepest skip as well.

Run:  python -m experiments.train --config=ml_collections_configs/release2015.py
          --config.data.images=IMAGES --config.data.masks=MASKS
          --workdir=runs/release2015
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration; what it leaves out is as in paper.py."""
    config = ml_collections.ConfigDict()
    config.model = ml_collections.ConfigDict()
    config.model.up_activation = True
    config.model.wide_last_up = True  # 128 channels to 128: 31,100,354 parameters
    config.model.concat_order = "up_first"
    config.model.kernel_init = "release2015"  # up-convolutions: N = 4 x output channels
    return config
