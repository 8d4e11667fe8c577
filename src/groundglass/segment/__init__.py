"""Lungs and lesions: from a network's probabilities to masks, shares and pictures of them."""
