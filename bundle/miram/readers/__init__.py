"""From an image file to 16-bit gray pixels and the facts in its header."""
