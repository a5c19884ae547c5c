"""The demo's data: a miniature CBIS-DDSM, generated, and then prepared by the same code as the real data."""

from __future__ import annotations

import logging
from pathlib import Path

from miram.generated.generate import generate_cbis_ddsm
from miram.generated.patients import CaseSettings
from miram.prepare.cbis_ddsm.prepare import prepare_cbis_ddsm

logger = logging.getLogger(__name__)


def prepare_demo(
    output_dir: str | Path,
    patients: int = 300,
    seed: int = 0,
    crop_size: int = 160,
    crops: str = "lesion",
    workers: int | None = None,
    mass_fraction: float = 0.95,
    test_fraction: float = 0.3,
) -> None:
    """
    Generate and prepare the demo's data; existing files are kept.

    Args:
        output_dir: the prepared folder to make; the DICOM files and tables go to `cbis_ddsm` beside it.
        patients: how many patients.
        seed: different seeds generate different patients.
        crop_size: side of the crops in pixels.
        crops: "lesion", "tissue" or "both".
        workers: number of processes; None is one per core, 0 is this process.
        mass_fraction: share of the patients with masses. At the demo's 64 pixels, a mass's pathology shows in its shape
            and margins; most calcifications are too small.
        test_fraction: share of the patients in the test tables: enough of both classes for intervals above chance.
    """
    source = Path(output_dir).parent / "cbis_ddsm"
    logger.info("generating %d patients in %s, for the demonstration", patients, source)
    cases = CaseSettings(mass_fraction=mass_fraction, test_fraction=test_fraction, large_fraction=0.003)
    generate_cbis_ddsm(source, patients, seed, workers, cases)
    prepare_cbis_ddsm(
        source / "dicom",
        source / "csv",
        output_dir,
        crops=crops,
        crop_size=crop_size,
        seed=seed,
        workers=workers,
    )
