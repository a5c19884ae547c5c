"""From an image file to 16-bit gray pixels, and what its header says."""
