"""Training of lung and lesion segmentation, and the measuring of its masks. Needs the extra ``train``."""
