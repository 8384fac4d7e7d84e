"""Random changes of images and labels, on the device."""
