"""The U-Net in JAX and Flax: network, weighted loss, weight map, training, prediction.

Public names live in their rooms and are gathered in `__init__.pyi`; all else is reached
by its module. Each is imported when it is first used. Importing starts no device and
sets no flag.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
