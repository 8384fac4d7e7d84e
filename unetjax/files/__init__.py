"""Files: image formats, size limits, atomic writes, locks, manifests, archives."""
