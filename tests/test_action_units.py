"""The AU table, the target grammar and what a target means for a face."""

from __future__ import annotations

import pytest

from eggan.action_units import (
    ACTION_UNITS,
    COLUMNS,
    EMOTIONS,
    NUMBERS,
    describe,
    emotion_target,
    parse_action_unit,
    parse_emotion,
    target_vector,
)
from eggan.errors import EgganError

OPENFACE = [
    "AU01_r", "AU02_r", "AU04_r", "AU05_r", "AU06_r", "AU07_r", "AU09_r", "AU10_r", "AU12_r", "AU14_r", "AU15_r",
    "AU17_r", "AU20_r", "AU23_r", "AU25_r", "AU26_r", "AU45_r",
]  # fmt: skip
"""Intensity columns of OpenFace 2's CSV, in its order; AU28 it has as presence only."""
OWN = [0.25 * i for i in range(17)]
"""A face's own intensities, all different, 0 to 4."""


def test_columns_are_openfaces_in_its_order() -> None:
    assert list(COLUMNS) == OPENFACE


def test_numbers_are_the_papers() -> None:
    assert NUMBERS == (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
    assert len({unit.name for unit in ACTION_UNITS}) == 17


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("value", [0.0, 0.1, 2.5, 5.0])
def test_a_written_target_parses_back(number: int, value: float) -> None:
    assert parse_action_unit(f"{number}={value}") == (number, value)


@pytest.mark.parametrize("text", ["12=4", "AU12=4", "au12=4.0", " 12 = 4 ", "AU12 =4e0"])
def test_spellings_of_a_target_mean_the_same(text: str) -> None:
    assert parse_action_unit(text) == (12, 4.0)


def test_a_change_may_be_negative() -> None:
    assert parse_action_unit("4=-2.5", relative=True) == (4, -2.5)


@pytest.mark.parametrize("text", ["", "12", "=", "=4", "12=", "12:4", "twelve=4", "12=four", "12=4=5", "1.5=2", "AU=3"])
def test_text_of_another_form_is_refused_and_named(text: str) -> None:
    with pytest.raises(EgganError) as refusal:
        parse_action_unit(text)
    assert f'"{text}"' in str(refusal.value)


@pytest.mark.parametrize("number", [0, 3, 8, 28, 46, -12])
def test_an_unknown_action_unit_is_refused_and_named(number: int) -> None:
    with pytest.raises(EgganError, match=f"AU {number} "):
        parse_action_unit(f"{number}=1")
    with pytest.raises(EgganError, match=f"AU {number} "):
        target_vector(OWN, {number: 1.0})


@pytest.mark.parametrize(
    ("value", "relative"),
    [("5.1", False), ("-0.1", False), ("nan", False), ("inf", False), ("5.1", True), ("-5.1", True), ("nan", True)],
)
def test_an_intensity_out_of_range_is_refused_and_named(value: str, relative: bool) -> None:
    with pytest.raises(EgganError, match=f"{value} of AU 12"):
        parse_action_unit(f"12={value}", relative=relative)
    with pytest.raises(EgganError, match=f"{value} of AU 12"):
        target_vector(OWN, {12: float(value)}, relative=relative)


def test_named_units_are_set_and_the_others_stay() -> None:
    expected = list(OWN)
    expected[NUMBERS.index(12)] = 4.0
    expected[NUMBERS.index(1)] = 0.5
    assert target_vector(OWN, {12: 4, 1: 0.5}) == expected


def test_only_sets_the_others_to_zero() -> None:
    expected = [0.0] * 17
    expected[NUMBERS.index(12)] = 4.0
    assert target_vector(OWN, {12: 4}, only=True) == expected


def test_relative_adds_to_the_source() -> None:
    expected = list(OWN)
    expected[NUMBERS.index(12)] += 1.5
    expected[NUMBERS.index(45)] -= 1.0
    assert target_vector(OWN, {12: 1.5, 45: -1.0}, relative=True) == expected


def test_relative_and_only_add_to_the_named_and_zero_the_others() -> None:
    expected = [0.0] * 17
    expected[NUMBERS.index(12)] = OWN[NUMBERS.index(12)] + 1.5
    assert target_vector(OWN, {12: 1.5}, only=True, relative=True) == expected


def test_a_relative_sum_is_kept_inside_the_range() -> None:
    vector = target_vector(OWN, {45: 3.0, 1: -2.0}, relative=True)
    assert (vector[NUMBERS.index(45)], vector[NUMBERS.index(1)]) == (5.0, 0.0)


def test_no_target_leaves_the_face_as_it_is() -> None:
    assert target_vector(OWN, {}) == OWN


def test_a_target_does_not_change_its_source() -> None:
    source = list(OWN)
    target_vector(source, {12: 4}, only=True)
    assert source == OWN


def test_the_emotions_are_rafds_eight() -> None:
    assert set(EMOTIONS) == {
        "neutral", "angry", "contemptuous", "disgusted", "fearful", "happy", "sad", "surprised",
    }  # fmt: skip


@pytest.mark.parametrize("name", EMOTIONS)
def test_an_emotion_uses_known_units_within_the_range(name: str) -> None:
    assert set(EMOTIONS[name]) <= set(NUMBERS)
    assert all(0 < value <= 5 for value in EMOTIONS[name].values())


def test_emotions_differ() -> None:
    assert len({tuple(sorted(units.items())) for units in EMOTIONS.values()}) == len(EMOTIONS)


def test_an_emotion_without_strength_is_the_prototype() -> None:
    assert parse_emotion("happy") == EMOTIONS["happy"] == emotion_target("happy")
    assert parse_emotion(" Happy ") == EMOTIONS["happy"]


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_strength_scales_every_unit_of_an_emotion(strength: float) -> None:
    assert parse_emotion(f"sad:{strength}") == {n: strength * value for n, value in EMOTIONS["sad"].items()}


@pytest.mark.parametrize(
    ("text", "named"),
    [("gleeful", "gleeful"), ("", '""'), ("happy:1.2", "1.2"), ("happy:-1", "-1"), ("happy:nan", "nan"),
     ("happy:much", "happy:much"), ("happy:", "happy:")],
)  # fmt: skip
def test_an_emotion_that_is_not_known_or_out_of_range_is_refused_and_named(text: str, named: str) -> None:
    with pytest.raises(EgganError) as refusal:
        parse_emotion(text)
    assert named in str(refusal.value)


def test_a_description_parses_back_to_the_vector() -> None:
    vector = target_vector([0.0] * 17, {6: 2.5, 12: 4, 26: 0.5})
    assert target_vector([0.0] * 17, dict(map(parse_action_unit, describe(vector).split()))) == vector
    assert describe([0.0] * 17) == "neutral"
