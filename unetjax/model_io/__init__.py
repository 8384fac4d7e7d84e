"""Trained networks leaving and entering."""
