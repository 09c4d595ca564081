"""The MMI Facial Expression Database (Pantic et al. 2005): videos, some with a coding of when each AU is at its apex.

A folder a session, as the database's site packs them:

    Sessions/1234/session.xml
    Sessions/1234/S017-042.avi             person 17, clip 42
    Sessions/1234/S017-042.xml             <Metatag Name="Emotion" Value="4"/>: 1 anger, 2 disgust, 3 fear, …
    Sessions/1234/S017-042-oao_aucs.xml    <ActionUnit Number="12"><Marker Frame="9" Type="1"/>…

A marker begins a phase of its AU: 0 neutral, 1 onset, 2 apex, 3 offset. Frames count from 1.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from eggan.data.sources import Listing, Skipped, Source, item_below
from eggan.data.video import count_frames
from eggan.errors import EgganError

__all__ = ["list_mmi"]

NAME = re.compile(r"(S\d+)-(\d+)", re.IGNORECASE)
EMOTIONS = {1: "angry", 2: "disgusted", 3: "fearful", 4: "happy", 5: "sad", 6: "surprised"}
NEUTRAL, APEX = 0, 2


def list_mmi(folder: Path, step: int = 5) -> Listing:
    """Of each video the first frame as the neutral one, and every `step`-th frame of its apex.

    The apex is where most of the coded AUs are at theirs; in a video without that coding, the middle third. Each
    video is a session of its own. The emotion is the coded one, `other` beyond the six, `mixed` where there is none.

    Raises:
        EgganError: there is no such folder.
    """
    if not folder.is_dir():
        raise EgganError(f"There is no folder {folder}.")
    sources, skipped = [], []
    clips: Counter[str] = Counter()
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".avi"):
        name = NAME.fullmatch(path.stem)
        if name is None:
            skipped.append(Skipped(item_below(folder, path), "its name is not like S001-001.avi"))
            continue
        try:
            frames, starts_neutral = _frames(path, step)
            emotion = _emotion(path.with_suffix(".xml"))
        except EgganError as error:
            skipped.append(Skipped(item_below(folder, path), str(error)))
            continue
        who = f"mmi{name[1].upper()}"
        session = clips[who]
        clips[who] += 1
        if starts_neutral:
            sources.append(Source(item_below(folder, path, 1), who, session, "neutral"))
        sources += [Source(item_below(folder, path, frame), who, session, emotion) for frame in frames]
    return Listing(sources, skipped)


def _frames(video: Path, step: int) -> tuple[range, bool]:
    """The frames of the apex, and whether the first frame is a neutral one."""
    coding = video.with_name(f"{video.stem}-oao_aucs.xml")
    phases = _phases(coding) if coding.is_file() else []
    apexes = [(start, end) for markers in phases for start, end, phase in markers if phase == APEX]
    if not apexes:
        count = count_frames(video)
        return range(max(2, count // 3), max(3, 2 * count // 3), step), True
    active = {start: sum(a <= start < b for a, b in apexes) for start, _ in apexes}
    first = max(active, key=lambda start: (active[start], -start))
    end = min(b for a, b in apexes if a <= first < b)
    moving = any(start <= 1 < end and phase != NEUTRAL for markers in phases for start, end, phase in markers)
    return range(first, end, step), not moving and first > 1


def _phases(coding: Path) -> list[list[tuple[int, int, int]]]:
    """Of each coded AU its phases as (first frame, first frame after it, type); the last one is one frame long."""
    found = []
    for unit in _xml(coding).iter("ActionUnit"):
        try:
            markers = sorted((int(m.attrib["Frame"]), int(m.attrib["Type"])) for m in unit.iter("Marker"))
        except (KeyError, ValueError):
            raise EgganError(f"{coding} has a Marker without Frame or Type.") from None
        ends = [frame for frame, _ in markers[1:]] + [markers[-1][0] + 1 if markers else 0]
        found.append([(frame, end, phase) for (frame, phase), end in zip(markers, ends, strict=False)])
    return found


def _emotion(path: Path) -> str:
    if not path.is_file():
        return "mixed"
    for tag in _xml(path).iter("Metatag"):
        if tag.get("Name") == "Emotion":
            value = tag.get("Value", "")
            return EMOTIONS.get(int(value), "other") if value.isdecimal() else "other"
    return "mixed"


def _xml(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise EgganError(f"{path} cannot be read as XML ({error}).") from None
