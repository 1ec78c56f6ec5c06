"""An example's data and its story: a model in production, a population that shifts, a few impossible rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Array, Feature
from monitor.examples import data, income_coding

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Story:
    """Rows to train on, rows that a monitor may learn from, rows that clients send, and what happens to them.

    ``shifted`` tells the rows of the later population; ``impossible`` is a column and a value that no row can have.
    """

    name: str
    features: tuple[Feature, ...]
    classes: tuple[str, str]
    x_train: Array
    y_train: npt.NDArray[np.int64]
    x_ref: Array
    x_stream: Array
    shifted: Callable[[Array], Bools]
    shift_text: str
    impossible: tuple[int, float]


def load(name: str, say: Callable[[str], None] = lambda _: None) -> Story:
    """The story of an example; ``say`` is told of downloads.

    Raises
    ------
    DataUnavailable : of :mod:`monitor.examples.data`: its data is neither at hand nor to be had.
    RuntimeError : scikit-learn is not installed.
    """
    if find_spec("sklearn") is None:
        raise RuntimeError('the examples need scikit-learn: pip install "offpath[demo]"')
    return income(say) if name == "income" else tumour()


def income(say: Callable[[str], None] = lambda _: None) -> Story:
    """UCI Adult: who earns more than 50,000; later only people under 28 ask."""
    train, test = (list(income_coding.rows(text)) for text in data.texts(data.ADULT, say=say))
    x, y = np.array([row for row, _ in train], dtype=np.float64), np.array([label for _, label in train])
    held = np.random.default_rng(0).permutation(len(x))
    ref, fit = held[:8000], held[8000:]
    return Story(
        "income",
        income_coding.FEATURES,
        income_coding.CLASSES,
        x[fit],
        y[fit],
        x[ref],
        np.array([row for row, _ in test], dtype=np.float64),
        lambda rows: np.asarray(rows[:, 0] < 28),
        "only people under 28",
        (0, 190.0),
    )


def tumour() -> Story:
    """Wisconsin breast cancer (scikit-learn's bundled copy): benign or malignant; later only large tumours come."""
    from sklearn.datasets import load_breast_cancer

    bunch: Any = load_breast_cancer()
    order = np.random.default_rng(0).permutation(len(bunch.data))
    x, y = bunch.data[order][:, :10], 1 - bunch.target[order]
    # The halves of so few patients differ by more than a window of 500 rows overlooks. So what is learned and what is
    # sent are draws, with replacement, from the same rows; those that the model was trained on are not among them.
    rest = x[100:]
    ref = rest[np.random.default_rng(1).integers(0, len(rest), 4000)]
    return Story(
        "tumour",
        tuple(Feature(str(name)) for name in bunch.feature_names[:10]),
        ("benign", "malignant"),
        x[:100],
        y[:100],
        ref,
        rest,
        lambda rows: np.asarray(rows[:, 0] > 15.0),
        "only tumours with a mean radius above 15",
        (0, 300.0),
    )


def train(story: Story) -> Any:
    """The example's classifier, fitted."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    categorical = [i for i, feature in enumerate(story.features) if feature.kind == "categorical"]
    model = HistGradientBoostingClassifier(max_iter=60, categorical_features=categorical or None, random_state=0)
    return model.fit(story.x_train, story.y_train)
