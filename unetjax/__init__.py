"""The U-Net in JAX and Flax: network, weighted loss, weight map, training, prediction.

The public names are listed in `__init__.pyi`; everything else is imported from its
module. A public name is imported when it is first used. Importing the package
initialises no device and sets no flag.
"""

import importlib.metadata

import lazy_loader

__version__ = importlib.metadata.version("unetjax")
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
