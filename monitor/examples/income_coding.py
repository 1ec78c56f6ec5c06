"""UCI Adult as twelve columns: the coding of the published income example.

Numbers stay; of the categories the finer ones are grouped, sorted, and become the codes 0, 1, ...
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from detectors.base import Feature

FIELDS = (
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship",
    "race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income",
)  # fmt: skip
"""The columns of the data set's files, which have no header."""

CLASSES = ("<=50K", ">50K")


class Column(NamedTuple):
    """A column of the example: its name, the data set's, the categories, and which values belong to which of them."""

    name: str
    source: str
    categories: tuple[str, ...] = ()
    groups: Mapping[str, str] = {}


_EDUCATION: Mapping[str, str] = {
    "10th": "Dropout", "11th": "Dropout", "12th": "Dropout", "1st-4th": "Dropout", "5th-6th": "Dropout",
    "7th-8th": "Dropout", "9th": "Dropout", "Assoc-acdm": "Associates", "Assoc-voc": "Associates", "HS-grad":
    "High School grad", "Preschool": "Dropout", "Prof-school": "Prof-School", "Some-college": "High School grad",
}  # fmt: skip
_MARITAL_STATUS: Mapping[str, str] = {
    "Divorced": "Separated", "Married-AF-spouse": "Married", "Married-civ-spouse": "Married",
    "Married-spouse-absent": "Separated", "Never-married": "Never-Married",
}  # fmt: skip
_OCCUPATION: Mapping[str, str] = {
    "Adm-clerical": "Admin", "Armed-Forces": "Military", "Craft-repair": "Blue-Collar", "Exec-managerial":
    "White-Collar", "Farming-fishing": "Blue-Collar", "Handlers-cleaners": "Blue-Collar", "Machine-op-inspct":
    "Blue-Collar", "Other-service": "Service", "Priv-house-serv": "Service", "Prof-specialty": "Professional",
    "Protective-serv": "Other", "Tech-support": "Other", "Transport-moving": "Blue-Collar",
}  # fmt: skip
_NATIVE_COUNTRY: Mapping[str, str] = {
    "Cambodia": "SE-Asia", "Canada": "British-Commonwealth", "Columbia": "South-America", "Cuba": "Other",
    "Dominican-Republic": "Latin-America", "Ecuador": "South-America", "El-Salvador": "South-America",
    "England": "British-Commonwealth", "France": "Euro_1", "Germany": "Euro_1", "Greece": "Euro_2", "Guatemala":
    "Latin-America", "Haiti": "Latin-America", "Holand-Netherlands": "Euro_1", "Honduras": "Latin-America",
    "Hong": "China", "Hungary": "Euro_2", "India": "British-Commonwealth", "Iran": "Other", "Ireland":
    "British-Commonwealth", "Italy": "Euro_1", "Jamaica": "Latin-America", "Japan": "Other", "Laos": "SE-Asia",
    "Mexico": "Latin-America", "Nicaragua": "Latin-America", "Outlying-US(Guam-USVI-etc)": "Latin-America",
    "Peru": "South-America", "Philippines": "SE-Asia", "Poland": "Euro_2", "Portugal": "Euro_2", "Puerto-Rico":
    "Latin-America", "Scotland": "British-Commonwealth", "South": "Euro_2", "Taiwan": "China", "Thailand":
    "SE-Asia", "Trinadad&Tobago": "Latin-America", "Vietnam": "SE-Asia",
}  # fmt: skip

COLUMNS = (
    Column("Age", "age"),
    Column(
        "Workclass", "workclass",
        (
            "?", "Federal-gov", "Local-gov", "Never-worked", "Private", "Self-emp-inc", "Self-emp-not-inc",
            "State-gov", "Without-pay",
        ),
    ),
    Column(
        "Education", "education",
        (
            "Associates", "Bachelors", "Doctorate", "Dropout", "High School grad", "Masters", "Prof-School",
        ), _EDUCATION,
    ),
    Column(
        "Marital Status", "marital-status",
        (
            "Married", "Never-Married", "Separated", "Widowed",
        ), _MARITAL_STATUS,
    ),
    Column(
        "Occupation", "occupation",
        (
            "?", "Admin", "Blue-Collar", "Military", "Other", "Professional", "Sales", "Service", "White-Collar",
        ), _OCCUPATION,
    ),
    Column(
        "Relationship", "relationship",
        (
            "Husband", "Not-in-family", "Other-relative", "Own-child", "Unmarried", "Wife",
        ),
    ),
    Column(
        "Race", "race",
        (
            "Amer-Indian-Eskimo", "Asian-Pac-Islander", "Black", "Other", "White",
        ),
    ),
    Column(
        "Sex", "sex",
        (
            "Female", "Male",
        ),
    ),
    Column("Capital Gain", "capital-gain"),
    Column("Capital Loss", "capital-loss"),
    Column("Hours per week", "hours-per-week"),
    Column(
        "Country", "native-country",
        (
            "?", "British-Commonwealth", "China", "Euro_1", "Euro_2", "Latin-America", "Other", "SE-Asia",
            "South-America", "United-States", "Yugoslavia",
        ), _NATIVE_COUNTRY,
    ),
)  # fmt: skip

FEATURES = tuple(Feature(c.name, "categorical" if c.categories else "numeric", c.categories) for c in COLUMNS)


def rows(text: str) -> Iterator[tuple[list[int], int]]:
    """Coded rows and their class, of the text of ``adult.data`` or ``adult.test``.

    >>> line = "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, "
    >>> next(rows(line + "2174, 0, 40, United-States, <=50K"))
    ([39, 7, 1, 1, 1, 1, 4, 1, 2174, 0, 40, 9], 0)
    """
    for cells in csv.reader(io.StringIO(text), skipinitialspace=True):
        if len(cells) == len(FIELDS):
            values = dict(zip(FIELDS, cells, strict=True))
            yield (
                [code(column, values[column.source]) for column in COLUMNS],
                CLASSES.index(values["income"].rstrip(".")),
            )


def code(column: Column, value: str) -> int:
    """The number that stands for a value in a column. Raises ``ValueError`` for one that it does not know."""
    if not column.categories:
        return int(value)
    try:
        return column.categories.index(column.groups.get(value, value))
    except ValueError:
        raise ValueError(f"{value!r} is no {column.source} that UCI Adult knows") from None
