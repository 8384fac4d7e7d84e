"""From an image of any size to class probabilities of the same size."""
