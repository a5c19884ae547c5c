"""How often each label occurs, and with which pathology: counts from the four tables of CBIS-DDSM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PATHOLOGIES = ("BENIGN", "BENIGN_WITHOUT_CALLBACK", "MALIGNANT")
NOT_AVAILABLE = "N/A"

Counts = Mapping[str, tuple[int, int, int]]
"""Label atom -> number of rows that are benign, benign without callback, malignant."""


@dataclass(frozen=True)
class KindStatistics:
    """Label statistics of one kind of abnormality, as counts of table rows."""

    pathology: tuple[int, int, int]  # rows that are benign, benign without callback, malignant
    shape: Counts  # mass shape, or calcification type
    margin: Counts  # mass margins, or calcification distribution
    second_shape: float  # share of lesions with two atoms in the shape (or type)
    second_margin: float  # the same for the margins (or distribution)
    assessment: Counts  # BI-RADS assessment -> rows per pathology
    density: Mapping[int, int]  # breast density -> rows
    subtlety: Mapping[int, int]  # subtlety -> rows


MASS = KindStatistics(
    pathology=(771, 141, 784),
    shape={
        "IRREGULAR": (89, 12, 425),
        "OVAL": (291, 28, 104),
        "LOBULATED": (251, 16, 132),
        "ROUND": (108, 11, 50),
        "ARCHITECTURAL_DISTORTION": (31, 14, 113),
        "LYMPH_NODE": (1, 44, 0),
        "FOCAL_ASYMMETRIC_DENSITY": (9, 11, 7),
        "ASYMMETRIC_BREAST_TISSUE": (3, 15, 8),
        "N/A": (2, 0, 2),
    },
    margin={
        "ILL_DEFINED": (163, 14, 295),
        "CIRCUMSCRIBED": (339, 54, 62),
        "SPICULATED": (31, 16, 360),
        "OBSCURED": (240, 7, 61),
        "MICROLOBULATED": (47, 9, 87),
        "N/A": (8, 41, 11),
    },
    second_shape=0.05,
    second_margin=0.08,
    assessment={
        "0": (140, 0, 22),
        "1": (0, 0, 3),
        "2": (31, 59, 1),
        "3": (247, 68, 49),
        "4": (344, 12, 346),
        "5": (9, 2, 363),
    },
    density={1: 337, 2: 757, 3: 449, 4: 153},
    subtlety={1: 55, 2: 141, 3: 358, 4: 453, 5: 687},
)


CALCIFICATION = KindStatistics(
    pathology=(658, 541, 673),
    shape={
        "PLEOMORPHIC": (416, 10, 482),
        "PUNCTATE": (98, 87, 55),
        "LUCENT_CENTER": (1, 239, 0),
        "AMORPHOUS": (138, 0, 82),
        "ROUND_AND_REGULAR": (18, 155, 7),
        "FINE_LINEAR_BRANCHING": (21, 5, 113),
        "VASCULAR": (0, 106, 0),
        "COARSE": (5, 79, 0),
        "EGGSHELL": (0, 36, 0),
        "N/A": (1, 20, 3),
        "DYSTROPHIC": (12, 10, 0),
        "LARGE_RODLIKE": (0, 15, 0),
        "SKIN": (0, 13, 0),
        "MILK_OF_CALCIUM": (2, 0, 0),
    },
    margin={
        "CLUSTERED": (528, 19, 422),
        "N/A": (5, 434, 0),
        "SEGMENTAL": (80, 9, 125),
        "LINEAR": (32, 11, 105),
        "REGIONAL": (17, 42, 44),
        "DIFFUSELY_SCATTERED": (9, 26, 5),
    },
    second_shape=0.16,
    second_margin=0.02,
    assessment={
        "0": (39, 0, 37),
        "2": (18, 534, 1),
        "3": (56, 4, 53),
        "4": (543, 3, 385),
        "5": (2, 0, 197),
    },
    density={1: 199, 2: 616, 3: 654, 4: 401},
    subtlety={1: 119, 2: 298, 3: 606, 4: 422, 5: 427},
)


@dataclass(frozen=True)
class Statistics:
    """
    The label statistics of both kinds of abnormality; the defaults are the counts over all 3,568 rows of CBIS-DDSM.

    Pathology is drawn first, then each label independently, given the pathology. The area under the ROC curve for
    malignancy from the true labels, the upper limit for any classifier, follows from the counts: 0.90 for masses, 0.83
    for calcifications.
    """

    mass: KindStatistics = MASS
    calcification: KindStatistics = CALCIFICATION
