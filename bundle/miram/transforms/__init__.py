"""Transforms of whole batches on their device."""
