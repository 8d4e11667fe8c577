"""Detectors whose evidence is lesions: a U-Net that marks them, and a head that judges only what is marked."""
