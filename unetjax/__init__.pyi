from .augmentation.augment import augment
from .geometry import output_size
from .inference.predict import predict
from .losses import soft_dice, weighted_cross_entropy
from .model_io.model_folder import load
from .network import presets
from .network.unet import UNet
from .training.steps import TrainState, train_step
from .weight_maps.device import separation_weight_map

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
