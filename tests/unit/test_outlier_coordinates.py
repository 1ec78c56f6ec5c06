"""Coordinates: what every kind of value becomes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import norm

from detectors.base import UNSEEN, DetectorError, Feature, ShapeError
from detectors.outlier.coordinates import BEYOND, FARTHEST, Coordinates, check_features

NUMERIC = (Feature("x"),)
COLOUR = (Feature("colour", "categorical", ("red", "green", "blue")),)


def learn(column, features=NUMERIC):
    return Coordinates.learn(np.asarray(column, dtype=float)[:, None], features)


def z(coordinates, *values):
    return coordinates.read(np.array(values, dtype=float)[:, None]).z[:, 0].tolist()


def test_inside_the_range_it_is_the_normal_score_of_the_rank():
    column = np.random.default_rng(0).exponential(size=2001) ** 3
    values = np.quantile(column, [0.05, 0.25, 0.5, 0.75, 0.95])
    assert z(learn(column), *values) == pytest.approx(norm.ppf([0.05, 0.25, 0.5, 0.75, 0.95]), abs=0.05)


def test_few_distinct_values_have_the_score_of_their_middle_rank_exactly():
    column = [1] * 50 + [2] * 30 + [9] * 20
    assert z(learn(column), 1, 2, 9) == pytest.approx(norm.ppf([0.25, 0.65, 0.9]))


def test_beyond_the_range_it_grows_by_one_per_standard_deviation_up_to_the_farthest():
    column = np.random.default_rng(0).normal(50, 10, 5000)
    coordinates = learn(column)
    unit = (np.percentile(column, 75) - np.percentile(column, 25)) / 1.349
    top = z(coordinates, column.max())[0]
    assert z(coordinates, column.max() + 3 * unit, column.max() + 7 * unit) == pytest.approx([top + 3, top + 7])
    assert z(coordinates, 1e300, np.inf) == [top + FARTHEST] * 2
    assert z(coordinates, -np.inf)[0] == -FARTHEST + z(coordinates, column.min())[0]


def test_a_column_that_is_mostly_one_value_has_the_standard_deviation_of_all_as_unit():
    column = np.where(np.arange(1000) % 10, 0.0, 100.0)
    top = z(learn(column), 100)[0]
    assert z(learn(column), 100 + 2 * column.std()) == pytest.approx([top + 2])


def test_categories_by_their_share_and_the_never_seen():
    coordinates = learn([0] * 90 + [1] * 10, COLOUR)
    never = np.sqrt(2 * np.log(0.9 * 2 * 100)) + BEYOND
    assert z(coordinates, 0, 1) == pytest.approx([0, np.sqrt(2 * np.log(9))])
    assert z(coordinates, 2, UNSEEN, 3, 1e6, -5, 0.5, 1.001, np.inf) == pytest.approx([never] * 8)
    assert coordinates.read(np.array([[0.0], [2.0], [1.0]])).unseen.ravel().tolist() == [False, True, False]


def test_values_outside_the_categories_that_the_reference_has_are_a_category_of_their_own():
    coordinates = learn([0] * 90 + [UNSEEN] * 10, COLOUR)
    assert z(coordinates, UNSEEN) == pytest.approx([np.sqrt(2 * np.log(9))])


def test_a_constant_column_is_one_category():
    coordinates = learn([7.0] * 100)
    assert z(coordinates, 7.0, 7.0 + 1e-12) == pytest.approx([0, 0], abs=0.1)
    assert z(coordinates, 7.1, 1e9, -np.inf) == [np.sqrt(2 * np.log(200)) + BEYOND] * 3


def test_a_column_without_any_value_says_nothing():
    coordinates = learn([np.nan] * 100)
    assert z(coordinates, 0, 5, -1e9, np.inf, np.nan) == [0] * 5
    assert coordinates.read(np.zeros((1, 1))).unseen is None


def test_missing_values_take_the_median_or_the_most_frequent_category():
    numbers, colours = learn([1, 2, 3, 50, np.nan]), learn([1, 1, 1, 0, np.nan], COLOUR)
    missing = np.array([[np.nan]])
    assert numbers.read(missing).values == 2.5
    assert colours.read(missing).values == 1
    assert numbers.read(missing).missing.all()
    assert numbers.read(np.array([[1.0]])).missing is None


def test_rows_of_columns_of_all_kinds_are_read_as_each_alone():
    rng = np.random.default_rng(0)
    columns = [
        rng.normal(size=500) * 1e-6,
        rng.integers(0, 3, 500).astype(float),
        np.full(500, 3.0),
        rng.random(500) * 1e9,
    ]
    features = (*NUMERIC, *COLOUR, *NUMERIC, *NUMERIC)
    rows = np.column_stack(columns)
    together = Coordinates.learn(rows, features)
    probe = np.vstack([rows[:100], rows[:100] * 3 + 1, np.full((1, 4), np.inf)])
    for j, (column, feature) in enumerate(zip(columns, features, strict=True)):
        alone = learn(column, (feature,))
        np.testing.assert_allclose(together.read(probe).z[:, j], alone.read(probe[:, j : j + 1]).z[:, 0], atol=1e-9)


finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=200, deadline=None)
@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 40)), elements=st.floats()),
    st.lists(st.floats(), min_size=2, max_size=20),
    st.sampled_from([NUMERIC, COLOUR]),
)
def test_any_floats_at_all_give_finite_coordinates_that_grow_with_numbers(reference, values, features):
    """Warnings are errors here, so overflow would show."""
    if features is COLOUR:
        reference = np.where(np.abs(reference) > 1000, 1.0, reference)
    coordinates = learn(reference, features)
    reading = coordinates.read(np.array(values)[:, None])
    assert np.isfinite(reading.z).all()
    assert np.isfinite(reading.values).all()
    if features is NUMERIC and not coordinates.levelled[0]:
        numbers = sorted(value for value in values if not np.isnan(value))
        assert (np.diff(z(coordinates, *numbers)) >= -1e-6).all() if numbers else True


def test_codes_that_look_like_ids_are_refused():
    with pytest.raises(DetectorError, match="'colour' is categorical with codes up to 12345678"):
        learn([1, 2, 12345678], COLOUR)


def test_features_must_be_one_per_column():
    assert [feature.name for feature in check_features(None, 2)] == ["x0", "x1"]
    with pytest.raises(ShapeError, match="1 features describe rows of 2 columns"):
        check_features(NUMERIC, 2)


def test_arrays_there_and_back():
    coordinates = learn([0] * 90 + [1] * 10, COLOUR)
    again = Coordinates.from_arrays(coordinates.to_arrays())
    assert z(again, 0, 1, 2) == z(coordinates, 0, 1, 2)
