"""Scores, comparisons and pictures of predictions on annotated images."""
