"""Images larger than the memory: read, predicted, labelled and written by blocks."""
