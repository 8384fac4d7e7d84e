"""A web page on this machine to look through images and their segmentation."""
