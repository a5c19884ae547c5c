"""A CBIS-DDSM of a few tiny images, written by hand, so that each quirk can be had alone."""

from __future__ import annotations

import csv
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ImplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from miram.prepare.image_crops import CropSettings

SHAPE = (96, 80)
MASS, CALC = ("mass shape", "mass margins"), ("calc type", "calc distribution")
TABLES = {  # file, spelling of the density column, folders' prefix, columns of its own
    "mass_train": ("mass_case_description_train_set.csv", "breast_density", "Mass-Training", MASS),
    "mass_test": ("mass_case_description_test_set.csv", "breast_density", "Mass-Test", MASS),
    "calc_train": ("calc_case_description_train_set.csv", "breast density", "Calc-Training", CALC),
    "calc_test": ("calc_case_description_test_set.csv", "breast density", "Calc-Test", CALC),
}
TERMS = {
    "mass shape": "OVAL",
    "mass margins": "SPICULATED",
    "calc type": "PLEOMORPHIC",
    "calc distribution": "CLUSTERED",
}


def uid(*names: object) -> str:
    """A UID that is the same for the same names."""
    return str(generate_uid(entropy_srcs=[str(name) for name in names]))


def write_dicom(path: Path, pixels: np.ndarray, series: str) -> None:
    """A secondary capture as those of CBIS-DDSM: implicit VR, MONOCHROME2, 8 or 16 bit."""
    image = pydicom.Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = SecondaryCaptureImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = UID(uid(path))
    image.SeriesInstanceUID, image.Modality = series, "MG"
    image.PatientID = "not the table's"
    image.Rows, image.Columns = pixels.shape
    image.BitsAllocated = image.BitsStored = 8 * pixels.itemsize
    image.HighBit, image.PixelRepresentation, image.SamplesPerPixel = image.BitsStored - 1, 0, 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.PixelData = pixels.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)


def mammogram(seed: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """(H, W) uint16: bright tissue with noise in the left half, air in the right one."""
    tissue = np.random.default_rng(seed).integers(20_000, 60_000, shape).astype(np.uint16)
    tissue[:, shape[1] // 2 :] = 100
    return tissue


def box_mask(top: int, bottom: int, left: int, right: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """(H, W) uint8: 255 in a box, else 0."""
    mask = np.zeros(shape, np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


class Miniature:
    """Rows of the four tables and the files they name."""

    def __init__(self, root: Path) -> None:
        self.dicom_dir, self.csv_dir, self.output_dir = root / "dicom", root / "csv", root / "prepared"
        self.rows: dict[str, list[dict[str, Any]]] = {}

    def add(
        self,
        table: str = "mass_train",
        patient: str = "P_00001",
        side: str = "LEFT",
        view: str = "CC",
        number: int = 1,
        box: tuple[int, int, int, int] = (30, 50, 10, 30),
        mask: np.ndarray | None = None,
        mask_first: bool = False,
        separate: bool = False,
        layout: str = "classic",
        **cells: str,
    ) -> dict[str, Path]:
        """Add a row, with the files' own layout; returns the paths of its "image", "mask" and "crop"."""
        file, density, folder, terms = TABLES[table]
        image = mammogram(len(patient + side + view))
        stem = f"{folder}_{patient}_{side}_{view}"
        full, lesion = uid(stem), uid(stem, number)
        crop_series, mask_series = (uid(lesion, "crop"), uid(lesion, "mask")) if separate else (lesion, lesion)
        numbers = (0, 0) if separate else ((1, 0) if mask_first else (0, 1))
        paths = {
            "image": self._path(layout, stem, full, 0),
            "crop": self._path(layout, f"{stem}_{number}", crop_series, numbers[0]),
            "mask": self._path(layout, f"{stem}_{number}", mask_series, numbers[1]),
        }
        write_dicom(paths["image"], image, full)
        write_dicom(paths["crop"], image[box[0] : box[1], box[2] : box[3]].copy(), crop_series)
        write_dicom(paths["mask"], box_mask(*box) if mask is None else mask, mask_series)
        row = {"patient_id": patient, density: "2", "left or right breast": side, "image view": view}
        row |= {"abnormality id": str(number), "abnormality type": "mass" if "mass" in table else "calcification"}
        row |= {name: TERMS[name] for name in terms}
        row |= {"assessment": "4", "pathology": "MALIGNANT", "subtlety": "5"}
        row["image file path"] = f"{stem}/{uid('study')}/{full}/000000.dcm"
        # The tables' numbers are often wrong: here always, and one path ends in a newline.
        row["cropped image file path"] = f"{stem}_{number}/{uid('study')}/{crop_series}/00000{numbers[1]}.dcm"
        row["ROI mask file path"] = f"{stem}_{number}/{uid('study')}/{mask_series}/00000{numbers[0]}.dcm\n"
        self.rows.setdefault(file, []).append(row | cells)
        return paths

    def write_tables(self) -> None:
        """Write the tables that have rows, with CRLF ends."""
        self.csv_dir.mkdir(parents=True, exist_ok=True)
        for file, rows in self.rows.items():
            with open(self.csv_dir / file, "w", newline="") as stream:
                writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\r\n")
                writer.writeheader()
                writer.writerows(rows)

    def prepare(self, **arguments: Any) -> Any:
        """Write the tables and prepare, in this process and with small crops unless told otherwise."""
        from miram.prepare.cbis_ddsm.prepare import prepare_cbis_ddsm

        self.write_tables()
        names = {field.name for field in fields(CropSettings)}
        crops = {name: value for name, value in arguments.items() if name in names}
        others = {name: value for name, value in arguments.items() if name not in names}
        settings = CropSettings(**{"crops": "lesion", "crop_size": 32, "crops_per_image": 4} | crops)
        return prepare_cbis_ddsm(self.dicom_dir, self.csv_dir, self.output_dir, settings, **{"workers": 0} | others)

    def _path(self, layout: str, stem: str, series: str, number: int) -> Path:
        if layout == "classic":
            return self.dicom_dir / stem / uid("study") / series / f"00000{number}.dcm"
        if layout == "descriptive":
            described = f"1.000000-ROI mask images-{series[-5:]}"
            return self.dicom_dir / stem / "10-04-2016-DDSM-NA-07499" / described / f"1-{number + 1}.dcm"
        return self.dicom_dir / series / f"{uid(series, number)[-12:]}.dcm"  # IDC


@pytest.fixture
def miniature(tmp_path: Path) -> Miniature:
    """An empty one, to add rows to."""
    return Miniature(tmp_path)


@pytest.fixture
def real_tables() -> Path:
    """The folder of the four published tables; skips where it is absent."""
    folder = Path(__file__).parents[3] / "../shared/data/cbis_ddsm"
    if not folder.is_dir():
        pytest.skip(f"the published tables are not in {folder}")
    return folder


@pytest.fixture
def dicom_writer() -> Any:
    """:func:`write_dicom`."""
    return write_dicom
