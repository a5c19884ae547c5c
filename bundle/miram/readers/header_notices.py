"""Header facts that may mislead training: reported in the summary, and excluded on request."""

from __future__ import annotations

from collections.abc import Mapping

NOTICES = {
    "for_processing": "for processing (raw), not for presentation",
    "other_views": "of another view than a plain CC or MLO",
    "implants": "of a breast with an implant",
    "inverse_lut": "of MONOCHROME2 with PresentationLUTShape INVERSE (the first is followed)",
    "beyond_bits_stored": "with values beyond their BitsStored (which are cut off)",
}


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
        "implants": header.get("breast_implant_present") == "YES" or "implant displaced" in view,
        "inverse_lut": inverse and header.get("photometric_interpretation") == "MONOCHROME2",
        "beyond_bits_stored": bool(header.get("beyond_bits_stored")),
    }
    return [notice for notice in NOTICES if applies[notice]]
