"""The elements of a DICOM header: read although devices leave them empty or misspell them, and the facts in them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, nan

from pydicom.dataset import Dataset

from miram.errors import InputError

# Elements that enhanced objects store in functional groups; other objects store them at the top level.
GROUPED = (
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("ModalityLUTSequence", "PixelSpacing", "ImagerPixelSpacing", "FrameLaterality", "ImageLaterality", "Laterality"),
    *("ViewPosition", "ViewCodeSequence"),
)
GROUPS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
# SNOMED CT and the older SNOMED RT codes of views (DICOM PS3.16, CID 4014) and of their modifiers (CID 4015).
VIEW_CODES = {
    **dict.fromkeys(("399162004", "R-10242"), "CC"),
    **dict.fromkeys(("399368009", "R-10226"), "MLO"),
    **dict.fromkeys(("399260004", "R-10224"), "ML"),
    **dict.fromkeys(("399352003", "R-10228"), "LM"),
    **dict.fromkeys(("399099002", "R-10230"), "LMO"),
    **dict.fromkeys(("399196006", "R-10244"), "FB"),
    **dict.fromkeys(("399188001", "R-102D0"), "SIO"),
    **dict.fromkeys(("441555000", "R-40AAA"), "ISO"),
    **dict.fromkeys(("399192008", "R-1024A"), "XCCL"),
    **dict.fromkeys(("399101009", "R-1024B"), "XCCM"),
    **dict.fromkeys(("127457009", "G-8310"), "SPECIMEN"),
}
IMPLANT_DISPLACED = "implant displaced"
MODIFIERS = {
    **dict.fromkeys(("399163009", "R-102D6"), "magnification"),
    **dict.fromkeys(("399055006", "R-102D7"), "spot compression"),
    **dict.fromkeys(("399209000", "R-102D5"), IMPLANT_DISPLACED),
    **dict.fromkeys(("399161006", "R-102D2"), "cleavage"),
    **dict.fromkeys(("399011000", "R-102D1"), "axillary tail"),
    **dict.fromkeys(("399197002", "R-102D3", "399226006", "R-102D4"), "rolled"),
    **dict.fromkeys(("415670009", "R-102C9", "414493004", "R-102CA"), "rolled"),
    **dict.fromkeys(("399110001", "R-102C2"), "tangential"),
    **dict.fromkeys(("442581004", "R-40AB3"), "nipple in profile"),
    **dict.fromkeys(("442580003", "R-40AB2"), "axillary tissue"),
    **dict.fromkeys(("441752004", "P2-00161"), "anterior compression"),
    **dict.fromkeys(("442593008", "R-40ABE"), "inframammary fold"),
}
# Defined terms of ViewPosition: mammography's (CID 4014) and those of projection radiography (PS3.3, C.8.7.1.1).
VIEWS = {
    *("CC", "MLO", "ML", "LM", "LMO", "FB", "SIO", "ISO", "XCC", "XCCL", "XCCM", "XCCCL", "CV", "AT", "RL", "RM"),
    *("AP", "PA", "LL", "RLD", "LLD", "RLO", "LLO"),
}
SIDES = {"L": "LEFT", "R": "RIGHT"}
TERMS = {
    "photometric_interpretation": ("PhotometricInterpretation", {"MONOCHROME1", "MONOCHROME2", "RGB"}),
    "presentation_intent_type": ("PresentationIntentType", {"FOR PRESENTATION", "FOR PROCESSING"}),
    "presentation_lut_shape": ("PresentationLUTShape", {"IDENTITY", "INVERSE"}),
    "breast_implant_present": ("BreastImplantPresent", {"YES", "NO"}),
}
# Facts that may mislead training: reported in the summary, and excluded on request.
NOTICES = {
    "for_processing": "for processing (raw), not for presentation",
    "other_views": "of another view than a plain CC or MLO",
    "implants": "of a breast with an implant",
    "inverse_lut": "of MONOCHROME2 with PresentationLUTShape INVERSE (read as MONOCHROME2)",
    "beyond_bits_stored": "with values beyond their BitsStored (which are cut off)",
}
# Storage classes that imply the intent: digital X-ray, mammography, intra-oral.
INTENTS = {
    f"1.2.840.10008.5.1.4.1.1.1.{number}{end}": intent
    for number in ("1", "2", "3")
    for end, intent in (("", "FOR PRESENTATION"), (".1", "FOR PROCESSING"))
}


def texts(header: Dataset, name: str) -> list[str]:
    """An element's values as text without surrounding spaces; an empty list if it is absent or empty."""
    try:
        value = header.get(name)
    except Exception:  # pydicom converts at the first access, and fails for what is not a number or a date
        value = header.get_item(name).value
    if isinstance(value, bytes):
        value = value.decode("latin-1").split("\\")
    several = isinstance(value, Sequence) and not isinstance(value, str)
    found = [] if value is None else [str(item).strip(" \0\r\n\t") for item in (value if several else [value])]
    return found if any(found) else []


def text(header: Dataset, name: str) -> str:
    """An element's first value in capitals; "" if there is none."""
    return next(iter(texts(header, name)), "").upper()


def numbers(header: Dataset, name: str) -> list[float]:
    """An element's values, also with a decimal comma; NaN for a value that is not a number."""
    return [_number(value) for value in texts(header, name)]


def items(header: Dataset, name: str) -> list[Dataset]:
    """The items of a sequence; an empty list if it is absent, empty or damaged."""
    try:
        return [item for item in header.get(name) or [] if isinstance(item, Dataset) and len(item)]
    except Exception:  # sequences are parsed at the first access
        return []


def adopt_groups(header: Dataset) -> None:
    """Copy elements from an enhanced object's functional groups (of its frame, or shared) to the top level."""
    for group in (item for name in GROUPS for item in items(header, name)[:1]):
        for macro in _macros(group):
            for name in GROUPED:
                if not _says(header, name) and _says(macro, name):
                    header[name] = macro.get_item(name)


def complete(path: str | os.PathLike[str], header: Dataset) -> None:
    """
    Fill in missing or empty elements that describe the pixels, if they follow from the others.

    Raises:
        InputError: if they do not.
    """
    header.PhotometricInterpretation = text(header, "PhotometricInterpretation")
    for name in ("PhotometricInterpretation", "BitsAllocated"):
        if not texts(header, name):
            raise InputError(f"{path} lacks {name}, without which its pixels cannot be read; export it again")
    defaults = {"SamplesPerPixel": 1, "PixelRepresentation": 0, "NumberOfFrames": 1, "BitsStored": header.BitsAllocated}
    for name, default in defaults.items():
        given = numbers(header, name)[:1]
        setattr(header, name, int(given[0]) if given and isfinite(given[0]) else default)
    header.NumberOfFrames = max(header.NumberOfFrames, 1)
    if not texts(header, "HighBit"):
        header.HighBit = header.BitsStored - 1


def _number(value: str) -> float:
    try:
        number = float(value.replace(",", "."))
    except ValueError:
        return nan
    return number if isfinite(number) else nan


def _says(header: Dataset, name: str) -> bool:
    return bool(items(header, name) if name.endswith("Sequence") else texts(header, name))


def _macros(group: Dataset) -> Iterator[Dataset]:
    """A functional group and all data sets nested in it."""
    yield group
    for element in group:
        for item in element.value if element.VR == "SQ" else ():
            yield from _macros(item)


def spacing(header: Dataset) -> tuple[float, ...] | None:
    """mm per pixel down and across, from the first usable pair."""
    pairs = (numbers(header, name) for name in ("PixelSpacing", "ImagerPixelSpacing"))
    usable = (pair for pair in pairs if len(pair) == 2 and all(isfinite(value) and value > 0 for value in pair))
    return next((tuple(pair) for pair in usable), None)


def laterality(header: Dataset) -> str | None:
    """LEFT or RIGHT, if the header says so."""
    said = (SIDES.get(text(header, name)) for name in ("ImageLaterality", "FrameLaterality", "Laterality"))
    return next((side for side in said if side), None)


def view(header: Dataset) -> str | None:
    """The view position, or the meaning of the view's code: known terms only."""
    position = text(header, "ViewPosition")
    codes = (VIEW_CODES.get(text(item, "CodeValue")) for item in items(header, "ViewCodeSequence"))
    return position if position in VIEWS else next((code for code in codes if code), None)


def identity(header: Dataset, name: str) -> str | None:
    """PatientID or StudyInstanceUID, unchanged."""
    return "\\".join(texts(header, name)) or None


def terms(header: Dataset) -> dict[str, str]:
    """Header facts that may mislead training, as columns of the report: known terms only, "" if the header has none."""
    said = {column: (text(header, name), known) for column, (name, known) in TERMS.items()}
    found = {column: term if term in known else "" for column, (term, known) in said.items()}
    found["presentation_intent_type"] = found["presentation_intent_type"] or INTENTS.get(
        text(header, "SOPClassUID"), ""
    )
    return found | {"view": ", ".join(filter(None, (view(header), *_modifiers(header))))}


def _modifiers(header: Dataset, magnified: float = 1.4) -> list[str]:
    """How the view differs from a plain one; a contact view is magnified 1.1 times or less."""
    codes = [
        text(modifier, "CodeValue")
        for item in items(header, "ViewCodeSequence")
        for modifier in items(item, "ViewModifierCodeSequence")
    ]
    found = {MODIFIERS[code] for code in codes if code in MODIFIERS}
    factor = numbers(header, "EstimatedRadiographicMagnificationFactor")[:1]
    return sorted(found | {"magnification"} if factor and factor[0] >= magnified else found)


def notices(header: Mapping[str, str]) -> list[str]:
    """
    Which of `NOTICES` apply.

    Args:
        header: see :class:`miram.readers.image.Image`; empty for an image without a DICOM header.
    """
    view = header.get("view", "")
    inverse = header.get("presentation_lut_shape") == "INVERSE"
    applies = {
        "for_processing": header.get("presentation_intent_type") == "FOR PROCESSING",
        "other_views": view not in ("", "CC", "MLO"),
        "implants": header.get("breast_implant_present") == "YES" or IMPLANT_DISPLACED in view,
        "inverse_lut": inverse and header.get("photometric_interpretation") == "MONOCHROME2",
        "beyond_bits_stored": bool(header.get("beyond_bits_stored")),
    }
    return [notice for notice in NOTICES if applies[notice]]
