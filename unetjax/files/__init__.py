"""Bytes on disk: image formats, limits, atomic writes, manifests."""
