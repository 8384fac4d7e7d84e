"""Metric writers, console output, pictures and HTML reports."""
