"""Datasets: the registry, manifests, splits and downloads."""
