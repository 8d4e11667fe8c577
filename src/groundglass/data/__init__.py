"""Datasets: the registry, manifests, splits, downloads."""
