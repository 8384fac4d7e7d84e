from .augmentation.augment import augment
from .geometry import Geometry, output_size
from .inference.predict import predict
from .inference.segment import Segmentation, segment
from .inference.trained_model import TrainedModel
from .instances.settings import InstanceSettings
from .losses import soft_dice, weighted_cross_entropy
from .model_io.model_folder import load_model, save_model
from .network import presets
from .network.input_scaling import InputScaling
from .network.unet import UNet
from .training.steps import TrainState, train_step
from .weight_maps.device import separation_weight_map

__version__: str

__all__ = [
    "Geometry",
    "InputScaling",
    "InstanceSettings",
    "Segmentation",
    "TrainState",
    "TrainedModel",
    "UNet",
    "augment",
    "load_model",
    "output_size",
    "predict",
    "presets",
    "save_model",
    "segment",
    "separation_weight_map",
    "soft_dice",
    "train_step",
    "weighted_cross_entropy",
]
