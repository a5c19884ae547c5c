"""MIRAM for MONAI: masked image reconstruction across multiple scales for breast imaging (arXiv 2503.07157)."""

from miram.threads import wait_asleep_if_busy

__version__ = "0.1.0"

wait_asleep_if_busy()  # here, since it must come before torch where that is possible, and hold in every workflow
