"""Named networks: the paper's and its best-known relatives, as settings of `UNet`.

To change single settings, clone: `presets.tf_unet().clone(num_classes=3)`.
"""

from unetjax.network.unet import UNet


def paper() -> UNet:
    """Returns the network of the paper's text: 31,030,658 parameters.

    Example:
      >>> paper().clone(features=16).depth
      4
    """
    return UNet()


def release2015() -> UNet:
    """Returns the network of the authors' 2015 Caffe release: 31,100,354 parameters."""
    return UNet(
        up_activation=True,
        wide_last_up=True,
        concat_order="up_first",
        kernel_init="release2015",
    )


def falk2019() -> UNet:
    """Returns the network of the authors' later Fiji plugin (Falk et al. 2019)."""
    return UNet(
        up_activation=True,
        concat_order="up_first",
        kernel_init="release2015",
        negative_slope=0.1,
        dropout_rate=0.0,
        input_shift=-0.5,
    )


def tf_unet() -> UNet:
    """Returns the default network of jakeret/tf_unet: 116,770 parameters.

    With linear logits: the ReLU there before the softmax leaves pixels without any
    gradient.
    """
    return UNet(
        features=16,
        depth=2,
        dropout_rate=0.25,
        dropout_sites="every_conv",
        up_activation=True,
        kernel_init="truncated_he",
        bias_init=0.1,
    )
