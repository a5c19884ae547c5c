"""MIRAM for MONAI: masked image reconstruction across multiple scales for breast imaging (arXiv 2503.07157)."""

__version__ = "0.1.0"
