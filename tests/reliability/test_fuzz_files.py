"""Damaged and hostile image files: each is read, or refused by name; none stops, hangs or fills the machine."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import struct
import subprocess
import sys
import zlib
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile

from miram.errors import InputError
from miram.jobs import run_jobs
from miram.prepare.folder import FolderSettings, prepare_folder
from miram.prepare.image_crops import CropSettings
from miram.prepare.prepared import read_png16
from miram.readers.formats import read_image
from miram.readers.image import Image

from ..image_files import dataset, picture, save
from .mutations import SHAPE, _with_right_checksums, mutate, seed_files

LIMIT = 10**6


def damaged_files(folder: Path, count: int, first: int = 0) -> list[Path]:
    """Files of all kinds in turn; the number in a file's name is the seed of its damage."""
    seeds, paths = seed_files(), []
    names = list(seeds)
    for case in range(first, first + count):
        name = names[case % len(names)]
        paths.append(folder / f"{case}_{name}")
        paths[-1].write_bytes(mutate(seeds[name], name, np.random.default_rng(case)))
    return paths


def test_undamaged_files_are_read(tmp_path: Path) -> None:
    for name, content in seed_files().items():
        (tmp_path / name).write_bytes(content)
        assert read_image(tmp_path / name, LIMIT).pixels.min() < 65535


def test_damaged_files_are_read_or_refused_by_name(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    count = request.config.getoption("--fuzz_cases", default=2000) * 6 // 10
    paths = damaged_files(tmp_path, count)
    # One worker: its importing is what takes long. A minute for 1 ms of work: a busy machine, not a slow reader.
    results = run_jobs(paths, partial(read_image, max_pixels=LIMIT), 1, "fuzzing", time_limit=60)
    lost = [result for result in results if "stopped the process" in str(result) or "took longer" in str(result)]
    print(f"{count} files: {Counter(type(result).__name__ for result in results)}, contained: {list(map(str, lost))}")
    for path, result in zip(paths, results, strict=True):
        if isinstance(result, InputError):
            assert str(path) in str(result)
        else:
            assert isinstance(result, Image)
            assert result.pixels.dtype == np.uint16
            assert 0 < result.pixels.size <= LIMIT
    assert not any("took longer" in str(result) for result in lost)
    assert len(lost) <= 2 + count // 1000, "codecs that crash are contained, and rare"


def test_a_folder_of_damaged_files_is_prepared_and_every_file_explained(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    damaged_files(tmp_path / "in", 60, first=10**6)
    for number in range(3):
        (tmp_path / "in" / f"good{number}.png").write_bytes(seed_files()["gray16.png"])
    before = sorted(tmp_path.rglob("*"))
    settings = CropSettings(crop_size=16, crops_per_image=2, spatial_dims=2, max_pixels=LIMIT)
    prepare_folder(tmp_path / "in", tmp_path / "out", FolderSettings(settings, workers=1, time_limit=60))
    with open(tmp_path / "out/report.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert sorted(row["source"] for row in rows) == sorted(path.name for path in (tmp_path / "in").iterdir())
    assert all(row["outputs"] if row["status"] == "crop" else row["reason"] for row in rows)
    crops = [read_png16(tmp_path / "out" / name) for row in rows for name in filter(None, row["outputs"].split(";"))]
    assert len(crops) >= 6
    assert all(crop.min() < crop.max() for crop in crops), "no black image in silence"
    outside = [path for path in tmp_path.rglob("*") if tmp_path / "out" not in (path, *path.parents)]
    assert sorted(outside) == before


def jpeg_claim(content: bytes, marker: bytes, height: int, width: int) -> bytes:
    """A JPEG, or a DICOM file with one, whose frame header claims another size."""
    place = content.index(marker) + 5
    return content[:place] + struct.pack(">HH", height, width) + content[place + 4 :]


def hostile_files() -> dict[str, bytes]:
    """Small files that claim or hold 200 MB and more, by the format."""
    seeds, large = seed_files(), 19_000
    png = struct.pack(">II", large, large)
    nifti = bytearray(gzip.decompress(seeds["volume.nii.gz"]))
    claim, extension, offset = nifti.copy(), nifti.copy(), nifti.copy()
    claim[42:48] = struct.pack("<hhh", 700, 700, 700)
    extension[348], extension[352:360] = 1, struct.pack("<ii", 2**31 - 8, 6)
    extension[108:112] = offset[108:112] = struct.pack("<f", 2**31)
    zeros = bytes(2 * 10**8)
    deflated = dataset(picture(12, SHAPE), 12, PixelData=zeros)
    deflated.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, deflated, enforce_file_format=True)
    siz = seeds["jpeg2000.dcm"].index(b"\xff\x4f\xff\x51") + 8
    return {
        "codestream2000.dcm": seeds["jpeg2000.dcm"][:siz] + png + seeds["jpeg2000.dcm"][siz + 8 :],
        "codestream_ls.dcm": jpeg_claim(seeds["jpegls.dcm"], b"\xff\xf7", 60_000, 60_000),
        "codestream.dcm": jpeg_claim(seeds["jpeg.dcm"], b"\xff\xc0", 60_000, 60_000),
        "claims.png": _with_right_checksums(seeds["gray8.png"][:16] + png + seeds["gray8.png"][24:]),
        "claims_wide.png": _with_right_checksums(seeds["wide.png"][:16] + png + seeds["wide.png"][24:]),
        "claims.jpg": jpeg_claim(seeds["gray.jpg"], b"\xff\xc0", large, large),
        "claims_progressive.jpg": jpeg_claim(seeds["progressive.jpg"], b"\xff\xc2", large, large),
        "inflates.tif": tiff_bomb(zlib.compress(zeros, 9)),
        "claims.nii": bytes(claim),
        "claims.nii.gz": gzip.compress(bytes(claim)),
        "extension.nii.gz": gzip.compress(bytes(extension) + zeros),
        "offset.nii.gz": gzip.compress(bytes(offset) + zeros),
        "claims.mha": seeds["plain.mha"].replace(b"DimSize = 7 6 5", b"DimSize = 700 700 700"),
        "claims_packed.mha": seeds["packed.mha"].replace(b"DimSize = 7 6 5", b"DimSize = 700 700 700"),
        "claims.nrrd": seeds["plain.nrrd"].replace(b"sizes: 7 6 5", b"sizes: 700 700 700"),
        "claims_packed.nrrd": seeds["packed.nrrd"].replace(b"sizes: 7 6 5", b"sizes: 700 700 700"),
        "inflates.dcm": stream.getvalue(),  # last: the measure is a peak
    }


def tiff_bomb(packed: bytes) -> bytes:
    """A TIFF of one strip that inflates to more than its pixels."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, picture(16, SHAPE), compression="zlib", rowsperstrip=SHAPE[0])
    content = bytearray(stream.getvalue())
    with tifffile.TiffFile(io.BytesIO(bytes(content))) as tiff:
        tags = tiff.pages.first.tags
        for name, number in (("StripOffsets", len(content)), ("StripByteCounts", len(packed))):
            content[tags[name].valueoffset : tags[name].valueoffset + 4] = struct.pack("<I", number)
    return bytes(content) + packed


MEASURE = """
import sys
from pathlib import Path
import itk
itk.UC, itk.VectorImage  # itk loads its parts when they are first used: 450 MB
from miram.readers.formats import read_image
from miram.errors import InputError
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
read_image(sys.argv[1])
before = peak()
for path in sys.argv[2:]:
    try:
        read_image(path)
        print("READ", path)
    except InputError as error:
        print(error)
    print("PEAK", (peak() - before) // 1024, path)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_claims_are_refused_without_the_memory_for_them(tmp_path: Path) -> None:
    good = tmp_path / "good.mha"
    good.write_bytes(seed_files()["plain.mha"])
    paths = [tmp_path / name for name in hostile_files()]
    for path, content in zip(paths, hostile_files().values(), strict=True):
        path.write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, good, *paths], capture_output=True, text=True, timeout=300, check=True
    )
    assert "READ" not in done.stdout
    for path in paths:
        assert re.search(rf"^{re.escape(str(path))} \w+", done.stdout, re.MULTILINE), "refused by name"
    peaks = {Path(path).name: int(size) for size, path in re.findall(r"PEAK (\d+) (.+)", done.stdout)}
    inflated = peaks.pop("inflates.dcm")
    assert {name: size for name, size in peaks.items() if size > 64} == {}
    assert inflated < 3 * 200, "200 MB are less than what 400 megapixels may have, and are inflated; at most doubled"


@pytest.mark.parametrize("name", ["a.dcm", "a.png", "a.jpg", "a.tif", "a.nii", "a.mha", "a.nrrd"])
def test_a_hundred_thousand_pixels_a_side_are_refused_by_the_default_limit(tmp_path: Path, name: str) -> None:
    seeds, side = seed_files(), 100_000
    png = struct.pack(">II", side, side)
    tiff = io.BytesIO()
    tifffile.imwrite(tiff, picture(8, SHAPE))
    tall = bytearray(tiff.getvalue())
    with tifffile.TiffFile(io.BytesIO(bytes(tall))) as opened:
        for tag in (opened.pages.first.tags["ImageWidth"], opened.pages.first.tags["ImageLength"]):
            tall[tag.offset : tag.offset + 12] = struct.pack("<HHII", tag.code, 4, 1, side)
    volume = bytearray(seeds["second.nii"])
    volume[24:40] = struct.pack("<qq", side, side)
    huge = {
        "a.dcm": seeds["Implicit_VR_Little_Endian.dcm"],
        "a.png": _with_right_checksums(seeds["gray8.png"][:16] + png + seeds["gray8.png"][24:]),
        "a.jpg": jpeg_claim(seeds["gray.jpg"], b"\xff\xc0", 65_500, 65_500),  # the format has no larger
        "a.tif": bytes(tall),
        "a.nii": bytes(volume),
        "a.mha": seeds["plain.mha"].replace(b"DimSize = 7 6 5", b"DimSize = 100000 100000 1"),
        "a.nrrd": seeds["plain.nrrd"].replace(b"sizes: 7 6 5", b"sizes: 100000 100000 1"),
    }
    if name == "a.dcm":  # 16 bits hold no 100,000
        save(tmp_path / name, dataset(picture(12, SHAPE), 12, Rows=65_535, Columns=65_535))
    else:
        (tmp_path / name).write_bytes(huge[name])
    with pytest.raises(InputError, match=rf"{name} claims .* pixels, more than max_pixels=400000000"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("place", ["../secret.raw", "{root}/secret.raw", "link.raw"])
@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr"])
def test_pixels_are_not_taken_from_outside_the_folder(tmp_path: Path, name: str, place: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.raw").write_bytes(picture(16, (7, 6, 5)).tobytes())
    (tmp_path / "in/link.raw").symlink_to(tmp_path / "secret.raw")
    data = place.format(root=tmp_path)
    headers = {
        "a.mhd": "ObjectType = Image\nNDims = 3\nDimSize = 7 6 5\nElementType = MET_USHORT\n"
        f"ElementDataFile = {data}\n",
        "a.nhdr": "NRRD0004\ntype: unsigned short\ndimension: 3\nsizes: 7 6 5\nencoding: raw\nendian: little\n"
        f"data file: {data}\n",
    }
    (tmp_path / "in" / name).write_text(headers[name])
    with pytest.raises(InputError, match=rf"{name} refers to pixels elsewhere"):
        read_image(tmp_path / "in" / name)


@pytest.mark.parametrize("name", ["images", ".prepare"])
def test_nothing_is_written_through_a_link(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(seed_files()["gray16.png"])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=f"{name} is a link"):
        prepare_folder(tmp_path / "in", tmp_path / "out", FolderSettings(workers=0))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_record_cannot_make_overwrite_remove_a_file_outside(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(seed_files()["gray16.png"])
    prepare_folder(tmp_path / "in", tmp_path / "out", FolderSettings(workers=0))
    (record,) = (tmp_path / "out/.prepare/sources").iterdir()
    content = json.loads(record.read_text())
    content["crops"][0]["image"] = "../keep.txt"
    record.write_text(json.dumps(content))
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(InputError, match="leaves its folder"):
        prepare_folder(tmp_path / "in", tmp_path / "out", FolderSettings(workers=0, overwrite=True))
    assert (tmp_path / "keep.txt").read_text() == "mine"


def test_a_file_that_may_not_be_read_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(seed_files()["gray16.png"])
    (tmp_path / "a.png").chmod(0)
    if os.access(tmp_path / "a.png", os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(InputError, match=r"a.png cannot be read"):
        read_image(tmp_path / "a.png")
