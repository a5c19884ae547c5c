"""The former location of :func:`miram.readers.formats.read_image`, kept for code that imports it from here."""

from miram.readers.formats import read_image

__all__ = ["read_image"]
