"""The income example is coded as the published one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.examples import income_coding, story
from monitor.examples.data import DataUnavailable

LINE = (
    "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, 2174, 0, 40, {}, {}"
)


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    roots = [Path(os.environ.get("OFFPATH_DATA", "")), Path(__file__).parents[3] / "shared" / "data"]
    for root in roots:
        if (path := root / "adult" / "income-12.json").is_file():
            found: dict[str, Any] = json.loads(path.read_text())
            return found
    pytest.skip("adult/income-12.json is not at hand: set OFFPATH_DATA to the folder that holds it")


@pytest.fixture(scope="module")
def income() -> story.Story:
    before = os.environ.get("OFFPATH_DATA_OFFLINE")
    os.environ["OFFPATH_DATA_OFFLINE"] = "1"
    try:
        return story.load("income")
    except DataUnavailable as error:
        pytest.skip(f"{error}: set OFFPATH_DATA to a folder with UCI Adult, or run `make demo` once with a network")
    finally:
        if before is None:
            del os.environ["OFFPATH_DATA_OFFLINE"]


def test_the_coding_is_the_published_one(published: dict[str, Any]) -> None:
    wanted = [
        (entry["name"], entry["column"], tuple(entry.get("categories") or ()), entry.get("groups") or {})
        for entry in published["features"]
    ]
    assert [(c.name, c.source, c.categories, dict(c.groups)) for c in income_coding.COLUMNS] == wanted
    assert list(income_coding.CLASSES) == published["classes"]


def test_the_first_row_is_the_published_request() -> None:
    assert list(income_coding.rows(LINE.format("United-States", "<=50K") + "\n")) == [
        ([39, 7, 1, 1, 1, 1, 4, 1, 2174, 0, 40, 9], 0)
    ]


@pytest.mark.parametrize(("country", "code"), [("Cuba", 6), ("Germany", 3), ("?", 0), ("Yugoslavia", 10)])
def test_groups_and_values_that_stay(country: str, code: int) -> None:
    [(row, label)] = income_coding.rows(LINE.format(country, ">50K."))
    assert (row[11], label) == (code, 1)


def test_comments_and_blank_lines_are_no_rows() -> None:
    assert list(income_coding.rows("|1x3 Cross validator\n\n")) == []


def test_an_unknown_value_is_an_error() -> None:
    with pytest.raises(ValueError, match="Atlantis"):
        list(income_coding.rows(LINE.format("Atlantis", "<=50K")))


def test_every_row_of_both_parts_is_used_once(income: story.Story) -> None:
    assert len(income.x_train) + len(income.x_ref) == 32_561
    assert len(income.x_stream) == 16_281
    assert np.isin(income.y_train, (0, 1)).all()
    column, value = income.impossible
    assert (income.features[column].name, value) == ("Age", 190.0)
    assert income.x_stream[:, column].max() == 90
    assert income.x_stream[income.shifted(income.x_stream)][:, column].max() == 27
