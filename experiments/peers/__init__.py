"""Other segmentation methods, trained beside ours by `experiments.compare`."""
