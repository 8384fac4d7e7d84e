"""Outlines drawn in other programs, read as label images."""
