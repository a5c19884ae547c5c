"""Crops of images, and augmentation of whole batches on their device."""
