"""Which numbered objects touch each other."""

import numpy as np
from jaxtyping import Integer


def count_touching(instances: Integer[np.ndarray, "H W"]) -> int:
    """Returns the number of pairs of objects that touch by an edge or a corner.

    Example:
      >>> count_touching(np.array([[1, 1, 0, 3], [0, 2, 0, 3]]))
      1
    """
    whole = slice(None)
    neighbours = (  # of a pixel: to the right, below, and below to both sides
        ((whole, slice(None, -1)), (whole, slice(1, None))),
        ((slice(None, -1), whole), (slice(1, None), whole)),
        ((slice(None, -1), slice(None, -1)), (slice(1, None), slice(1, None))),
        ((slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))),
    )
    pairs = []
    for here, there in neighbours:
        one, other = instances[here], instances[there]
        touching = (one > 0) & (other > 0) & (one != other)
        pairs.append(np.stack([one[touching], other[touching]], axis=1))
    return len(np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0))
