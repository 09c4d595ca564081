"""The Radboud Faces Database (Langner et al. 2010): who and what is on a picture stands in its name.

`Rafd090_01_Caucasian_female_angry_frontal.jpg`: camera angle (090 is in front), number of the person, group
(Caucasian, Moroccan, Kid), sex, one of eight expressions, and where the eyes look (frontal, left, right). 67 people,
681×1024 pixels, the face in the upper half.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from eggan.action_units import EMOTIONS
from eggan.data.by_file import pictures_in
from eggan.data.sources import Listing, Skipped, Source, item_below

__all__ = ["CAMERAS", "GAZES", "list_rafd"]

CAMERAS = ("090", "045", "135", "000", "180")
GAZES = ("frontal", "left", "right")
NAME = re.compile(r"Rafd(\d{3})_(\d+)_[A-Za-z]+_(?:female|male)_([a-z]+)_([a-z]+)")


def list_rafd(folder: Path, cameras: Sequence[str] = ("090",), gazes: Sequence[str] = GAZES) -> Listing:
    """The pictures of RaFD in a folder and its sub-folders.

    Pictures of one person, camera and gaze are one session: they differ in expression alone.

    Raises:
        EgganError: there is no such folder.
    """
    sources, skipped = [], []
    for path in pictures_in(folder):
        item, name = item_below(folder, path), NAME.fullmatch(path.stem)
        if name is None or name[1] not in CAMERAS or name[3] not in EMOTIONS or name[4] not in GAZES:
            skipped.append(Skipped(item, "its name is not one of RaFD's"))
            continue
        camera, person, emotion, gaze = name.groups()
        if camera not in cameras:
            skipped.append(Skipped(item, f"camera {camera}"))
        elif gaze not in gazes:
            skipped.append(Skipped(item, f"gaze {gaze}"))
        else:
            session = CAMERAS.index(camera) * len(GAZES) + GAZES.index(gaze)
            sources.append(Source(item, f"rafd{int(person):02}", session, emotion))
    return Listing(sources, skipped)
