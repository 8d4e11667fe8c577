"""Training: recipes, models, losses, the loop and the export of a bundle. Needs the extra 'train'."""
