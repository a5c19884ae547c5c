"""Generate a miniature CBIS-DDSM: plan, draw and write it; a finished one is kept."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from miram.errors import InputError
from miram.files import write_json
from miram.generated.data_files import film_paths, write_film, write_tables
from miram.generated.films import Film, Quirks, plan_films, table_name
from miram.generated.mammogram import FilmSettings, Mammogram, draw_mammogram
from miram.generated.patients import CaseSettings, draw_cases
from miram.jobs import run_jobs
from miram.prepare.cbis_ddsm.prepare import prepare_cbis_ddsm
from miram.prepare.image_crops import CropSettings
from miram.prepare.prepared import GENERATED_MARKER

FORMAT_VERSION = 2  # raised when the same arguments generate different files
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GeneratedData:
    """The result of :func:`generate_cbis_ddsm`."""

    dicom_dir: Path
    csv_dir: Path
    patients: int
    films: int
    rows: dict[str, int]  # by the table's file name
    new_films: int  # written by this call: 0 if the data already existed


def generate_cbis_ddsm(
    output_dir: str | Path,
    patients: int = 60,
    seed: int = 0,
    workers: int | None = None,
    cases: CaseSettings | None = None,
    films: FilmSettings | None = None,
    quirks: Quirks | None = None,
) -> GeneratedData:
    """
    Generate patients in the formats of CBIS-DDSM, with its irregularities: `dicom/` and the four tables in `csv/`.

    The files depend only on the arguments other than `workers`. A finished folder with the same arguments is left
    alone, and an unfinished one is completed.

    Args:
        patients: how many, at least 5.
        workers: number of processes; None is one per core, 0 is this process.
        cases: how patients and lesions are drawn.
        films: how films look.
        quirks: how often tables and files are irregular.

    Raises:
        InputError: if an argument is out of range, or the folder holds something else.
    """
    if patients < 5:
        raise InputError(f"patients is {patients}; give at least 5, for four tables and a patient in two of them")
    if seed < 0:
        raise InputError(f"seed is {seed}; give 0 or a positive number")
    cases, films, quirks = cases or CaseSettings(), films or FilmSettings(), quirks or Quirks()
    settings = {"cases": asdict(cases), "films": asdict(films), "quirks": asdict(quirks)}
    arguments = {"format": FORMAT_VERSION, "patients": patients, "seed": seed, **settings}
    output_dir = Path(output_dir)
    finished = _claim(output_dir, json.loads(json.dumps(arguments)))
    plan = plan_films(draw_cases(patients, seed, cases), seed, quirks)
    dicom_dir, csv_dir = output_dir / "dicom", output_dir / "csv"
    rows = [row for film in plan for row in film.rows]
    missing = [] if finished else _missing(plan, dicom_dir)
    if not finished:
        write_tables(csv_dir, rows)
        _draw(missing, dicom_dir, seed, films, workers)
        _mark(output_dir, arguments, finished=True)
    counts = Counter(table_name(row.finding.kind, row.finding.split) for row in rows)
    return GeneratedData(dicom_dir, csv_dir, patients, len(plan), dict(counts), len(missing))


def draw_film(film: Film, seed: int, settings: FilmSettings) -> Mammogram:
    """Draw a planned film; its randomness follows from the seed, the patient, the side and the view."""
    key = (1, film.number, int(film.view.side == "RIGHT"), int(film.view.view == "MLO"))
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
    return draw_mammogram(film.view, film.density, film.size, rng, settings)


def _missing(films: Sequence[Film], dicom_dir: Path) -> list[Film]:
    return [film for film in films if not all(path.exists() for path in film_paths(film, dicom_dir))]


def _draw(films: Sequence[Film], dicom_dir: Path, seed: int, settings: FilmSettings, workers: int | None) -> None:
    work = partial(_draw_and_write, dicom_dir=dicom_dir, seed=seed, settings=settings)
    for result in run_jobs(films, work, workers, "Drawing mammograms"):
        if isinstance(result, InputError):
            raise result


def _draw_and_write(film: Film, dicom_dir: Path, seed: int, settings: FilmSettings) -> None:
    write_film(film, draw_film(film, seed, settings), dicom_dir)


def _claim(output_dir: Path, arguments: dict) -> bool:
    """Whether the folder is already finished; refuse a folder with other arguments or other content."""
    marker = output_dir / GENERATED_MARKER
    if marker.exists():
        found = json.loads(marker.read_text(encoding="utf-8"))
        if found["arguments"] != arguments:
            changed = [name for name in arguments if found["arguments"].get(name) != arguments[name]]
            raise InputError(
                f"{output_dir} was generated with other arguments ({', '.join(changed)}); give another output_dir, or "
                "delete the folder first"
            )
        return bool(found["finished"])
    if output_dir.exists() and any(output_dir.iterdir()):
        raise InputError(f"{output_dir} is not empty and was not generated by this program; give a new output_dir")
    _mark(output_dir, arguments, finished=False)
    return False


def _mark(output_dir: Path, arguments: dict, finished: bool) -> None:
    write_json(output_dir / GENERATED_MARKER, {"finished": finished, "arguments": arguments})


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
        crops: "lesion", "tissue" or "both".
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
        CropSettings(crops, crop_size, crops_per_image=4, seed=seed),
        workers=workers,
    )
