"""Segmentation of lungs and lesions: masks from a network's probabilities, with their measurements and pictures."""
