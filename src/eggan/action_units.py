"""The 17 FACS Action Units (AUs) of the paper: order, names, range, emotion prototypes, the target grammar.

An AU vector is 17 intensities from 0 (absent) to 5 (maximum) in the order of `NUMBERS`, the order of
OpenFace's columns (Sec. 4.1). The networks see intensities / 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

from eggan.errors import EgganError

__all__ = [
    "ACTION_UNITS",
    "COLUMNS",
    "EMOTIONS",
    "MAX_INTENSITY",
    "NUMBERS",
    "ActionUnit",
    "Targets",
    "asked_vector",
    "describe",
    "emotion_target",
    "parse_action_unit",
    "parse_emotion",
    "target_vector",
    "whole_expression",
    "whole_vector",
]

MAX_INTENSITY = 5.0
Targets = Mapping[int, float] | Sequence[float] | str
"""What may be asked for: AU number to intensity, all 17 intensities, or an emotion as `happy` or `happy:0.8`."""


@dataclass(frozen=True)
class ActionUnit:
    """One FACS Action Unit: its number, its name in the FACS manual, the muscle and the region that move."""

    number: int
    name: str
    muscle: str
    region: str

    @property
    def column(self) -> str:
        """Column of a faces file, as OpenFace names it: `AU04_r`."""
        return f"AU{self.number:02d}_r"


ACTION_UNITS = (
    ActionUnit(1, "inner brow raiser", "frontalis, pars medialis", "brows"),
    ActionUnit(2, "outer brow raiser", "frontalis, pars lateralis", "brows"),
    ActionUnit(4, "brow lowerer", "corrugator supercilii, depressor supercilii", "brows"),
    ActionUnit(5, "upper lid raiser", "levator palpebrae superioris", "eyes"),
    ActionUnit(6, "cheek raiser", "orbicularis oculi, pars orbitalis", "nose and cheeks"),
    ActionUnit(7, "lid tightener", "orbicularis oculi, pars palpebralis", "eyes"),
    ActionUnit(9, "nose wrinkler", "levator labii superioris alaeque nasi", "nose and cheeks"),
    ActionUnit(10, "upper lip raiser", "levator labii superioris", "mouth"),
    ActionUnit(12, "lip corner puller", "zygomaticus major", "mouth"),
    ActionUnit(14, "dimpler", "buccinator", "mouth"),
    ActionUnit(15, "lip corner depressor", "depressor anguli oris", "mouth"),
    ActionUnit(17, "chin raiser", "mentalis", "chin and jaw"),
    ActionUnit(20, "lip stretcher", "risorius with platysma", "mouth"),
    ActionUnit(23, "lip tightener", "orbicularis oris", "mouth"),
    ActionUnit(25, "lips part", "depressor labii inferioris", "mouth"),
    ActionUnit(26, "jaw drop", "masseter relaxed", "chin and jaw"),
    ActionUnit(45, "blink", "orbicularis oculi, levator palpebrae relaxed", "eyes"),
)
NUMBERS = tuple(unit.number for unit in ACTION_UNITS)
COLUMNS = tuple(unit.column for unit in ACTION_UNITS)

EMOTIONS: Mapping[str, Mapping[int, float]] = {
    "neutral": {},
    "angry": {4: 5.0, 5: 3.0, 7: 4.0, 23: 4.0},
    "contemptuous": {12: 1.5, 14: 2.7},
    "disgusted": {4: 2.0, 9: 5.0, 15: 2.5, 17: 3.0},
    "fearful": {1: 5.0, 2: 3.0, 4: 3.0, 5: 4.5, 20: 4.0, 25: 3.0, 26: 2.0},
    "happy": {6: 4.0, 12: 4.5, 25: 4.0},
    "sad": {1: 4.0, 4: 2.5, 15: 4.5, 17: 2.5},
    "surprised": {1: 5.0, 2: 5.0, 5: 4.0, 25: 3.5, 26: 4.5},
}
"""Prototypes at full strength: AU intensities of the eight expressions of RaFD (after EMFACS), others 0."""


def parse_action_unit(text: str, *, relative: bool = False) -> tuple[int, float]:
    """Read `"12=4"` as AU 12 at intensity 4.

    Args:
        text: number and intensity with `=` between. `AU12=4` is read too.
        relative: the intensity is a change, so -5..5 is allowed instead of 0..5.

    Raises:
        EgganError: the text has another form, the AU is none of the 17, or the intensity is out of range.

    >>> parse_action_unit("12=4")
    (12, 4.0)
    """
    left, equals, right = text.partition("=")
    try:
        number, value = int(left.strip().upper().removeprefix("AU")), float(right)
    except ValueError:
        equals, number, value = "", 0, 0.0
    if not equals:
        raise EgganError(f'"{text}" is not an Action Unit target: write NUMBER=INTENSITY, for example 12=4.')
    _check(number, value, relative=relative)
    return number, value


def parse_emotion(text: str) -> dict[int, float]:
    """Read `"happy"` or `"happy:0.8"` as the AUs of that prototype, scaled.

    Raises:
        EgganError: the emotion is none of `EMOTIONS`, or the strength is outside 0..1.

    >>> parse_emotion("happy:0.5")
    {6: 2.0, 12: 2.25, 25: 2.0}
    """
    name, colon, strength = text.partition(":")
    try:
        return emotion_target(name.strip().lower(), float(strength) if colon else 1.0)
    except ValueError:
        raise EgganError(f'The strength in "{text}" is not a number: write, for example, {name}:0.8.') from None


def emotion_target(name: str, strength: float = 1.0) -> dict[int, float]:
    """AU targets of an emotion prototype at a strength of 0..1."""
    if name not in EMOTIONS:
        raise EgganError(f'"{name}" is not a known emotion: choose one of {", ".join(EMOTIONS)}.')
    if not 0 <= strength <= 1:
        raise EgganError(f"Emotion strength {strength:g} is outside 0..1.")
    return {number: strength * value for number, value in EMOTIONS[name].items()}


def target_vector(
    source: Sequence[float], targets: Mapping[int, float], *, only: bool = False, relative: bool = False
) -> list[float]:
    """The 17 target intensities that a request means for a face.

    Args:
        source: the face's own 17 intensities, 0..5.
        targets: AU number to intensity (0..5), or to change (-5..5) where `relative`.
        only: AUs that are not named go to 0; else they stay at the source's.
        relative: named values are added to the source's, and the sum is kept inside 0..5.

    Raises:
        EgganError: an AU is none of the 17 or a value is out of range.

    >>> target_vector([1.0] * 17, {12: 4}, only=True)[8], target_vector([1.0] * 17, {12: 2}, relative=True)[8]
    (4.0, 3.0)
    """
    for number, value in targets.items():
        _check(number, value, relative=relative)
    vector = []
    for number, own in zip(NUMBERS, source, strict=True):
        start = own if relative else 0.0
        if number in targets:
            vector.append(min(max(float(start + float(targets[number])), 0.0), MAX_INTENSITY))
        else:
            vector.append(0.0 if only else float(own))
    return vector


def whole_expression(targets: Mapping[int, float]) -> dict[int, float]:
    """All 17 AUs of an expression: those of a prototype, the others 0."""
    return {number: targets.get(number, 0.0) for number in NUMBERS}


def asked_vector(own: Sequence[float], targets: Targets, only: bool, relative: bool) -> list[float]:
    """The 17 intensities that a request means for a face, as `target_vector` where it names AUs.

    Raises:
        EgganError: an AU, emotion or value is wrong, or an emotion or a whole vector is asked for as a change.

    >>> asked_vector([1.0] * 17, "contemptuous", only=False, relative=False)[8:10]
    [1.5, 2.7]
    """
    if isinstance(targets, Mapping):
        return target_vector(own, targets, only=only, relative=relative)
    if relative:
        raise EgganError(
            "relative goes with named Action Units only: an emotion or another face's expression sets all 17."
        )
    if isinstance(targets, str):
        return target_vector(own, whole_expression(parse_emotion(targets)))
    return whole_vector(targets)


def whole_vector(intensities: Sequence[float]) -> list[float]:
    """All 17 intensities as plain numbers.

    Raises:
        EgganError: they are not that many, or one is out of 0..5.
    """
    if len(intensities) != len(NUMBERS):
        raise EgganError(
            f"An expression has {len(NUMBERS)} Action Units, not {len(intensities)}: {', '.join(COLUMNS)}."
        )
    return target_vector(intensities, dict(zip(NUMBERS, intensities, strict=True)))


def describe(vector: Sequence[float]) -> str:
    """The AUs above 0 of a vector, as `AU06=2.5 AU12=4`; `neutral` where there is none."""
    units = zip(ACTION_UNITS, vector, strict=True)
    return " ".join(f"AU{unit.number:02d}={value:.3g}" for unit, value in units if value > 0.005) or "neutral"


def _check(number: int, value: float, *, relative: bool) -> None:
    if number not in NUMBERS:
        raise EgganError(f"AU {number!r} is not one of the 17 Action Units: {', '.join(map(str, NUMBERS))}.")
    if not isinstance(value, Real):
        raise EgganError(f"Intensity {value!r} of AU {number} is not a number.")
    low = -MAX_INTENSITY if relative else 0.0
    if not low <= value <= MAX_INTENSITY:
        raise EgganError(f"Intensity {value:g} of AU {number} is outside {low:g}..{MAX_INTENSITY:g}.")
