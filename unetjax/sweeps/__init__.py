"""Hyperparameter sweeps: trials, workers, search, results."""
