"""The U-Net in JAX and Flax: network, weighted loss, weight map, training, prediction.

Public names live in their rooms and are gathered here; all else is reached by its
module. Importing starts no device and sets no flag.
"""

from unetjax.augmentation.augment import augment
from unetjax.exchange.model_folder import load
from unetjax.geometry import output_size
from unetjax.inference.predict import predict
from unetjax.losses import soft_dice, weighted_cross_entropy
from unetjax.network import presets
from unetjax.network.unet import UNet
from unetjax.training.steps import TrainState, train_step
from unetjax.weight_maps.device import separation_weight_map

__all__ = [
    "TrainState",
    "UNet",
    "augment",
    "load",
    "output_size",
    "predict",
    "presets",
    "separation_weight_map",
    "soft_dice",
    "train_step",
    "weighted_cross_entropy",
]
