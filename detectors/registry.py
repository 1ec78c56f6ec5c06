"""Detectors by name: ``detector_type`` to class, without importing what is not asked for."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from detectors.base import Detector, DetectorError, DetectorKind
from detectors.parameters import wrong_types

DETECTOR_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "KSDrift": "detectors.drift.ks:KSDrift",
        "CVMDrift": "detectors.drift.cvm:CVMDrift",
        "ChiSquareDrift": "detectors.drift.chisquare:ChiSquareDrift",
        "FETDrift": "detectors.drift.fet:FETDrift",
        "TabularDrift": "detectors.drift.tabular:TabularDrift",
        "MMDDrift": "detectors.drift.mmd:MMDDrift",
        "LSDDDrift": "detectors.drift.lsdd:LSDDDrift",
        "ClassifierDrift": "detectors.drift.classifier:ClassifierDrift",
        "LearnedKernelDrift": "detectors.drift.learned_kernel:LearnedKernelDrift",
        "SpotTheDiffDrift": "detectors.drift.spot_the_diff:SpotTheDiffDrift",
        "ContextMMDDrift": "detectors.drift.context_mmd:ContextMMDDrift",
        "BBSDDrift": "detectors.drift.bbsd:BBSDDrift",
        "ClassifierUncertaintyDrift": "detectors.drift.classifier_uncertainty:ClassifierUncertaintyDrift",
        "RegressorUncertaintyDrift": "detectors.drift.regressor_uncertainty:RegressorUncertaintyDrift",
        "CVMDriftOnline": "detectors.drift.cvm_online:CVMDriftOnline",
        "FETDriftOnline": "detectors.drift.fet_online:FETDriftOnline",
        "MMDDriftOnline": "detectors.drift.mmd_online:MMDDriftOnline",
        "LSDDDriftOnline": "detectors.drift.lsdd_online:LSDDDriftOnline",
        "IForest": "detectors.outlier.isolation_forest:IForest",
        "Mahalanobis": "detectors.outlier.mahalanobis:Mahalanobis",
        "KNN": "detectors.outlier.knn:KNN",
        "LOF": "detectors.outlier.lof:LOF",
        "PCA": "detectors.outlier.pca:PCA",
        "KernelPCA": "detectors.outlier.kernel_pca:KernelPCA",
        "GMM": "detectors.outlier.gmm:GMM",
        "SVM": "detectors.outlier.svm:SVM",
        "OutlierAE": "detectors.outlier.autoencoder:OutlierAE",
        "OutlierVAE": "detectors.outlier.variational:OutlierVAE",
        "OutlierAEGMM": "detectors.outlier.aegmm:OutlierAEGMM",
        "OutlierVAEGMM": "detectors.outlier.vaegmm:OutlierVAEGMM",
        "OutlierSeq2Seq": "detectors.outlier.seq2seq:OutlierSeq2Seq",
        "LLR": "detectors.outlier.llr:LLR",
        "SpectralResidual": "detectors.outlier.spectral_residual:SpectralResidual",
        "AdversarialAE": "detectors.adversarial.autoencoder:AdversarialAE",
        "ModelDistillation": "detectors.adversarial.distillation:ModelDistillation",
        "AlibiDetect": "detectors.compat.alibi:AlibiDetect",
    }
)
"""``detector_type`` -> ``"module:Class"``."""


def _kind(target: str) -> DetectorKind:
    if target.startswith("detectors.outlier."):
        return "outlier"
    return "adversarial" if target.startswith("detectors.adversarial.") else "drift"


KINDS: Mapping[str, DetectorKind] = MappingProxyType({name: _kind(target) for name, target in DETECTOR_TYPES.items()})
"""``detector_type`` -> ``"drift"``, ``"outlier"`` or ``"adversarial"``; known without importing the detector.

``AlibiDetect`` is what it has loaded: ``meta.kind`` says it then.
"""

PATHS: Mapping[str, tuple[str, ...]] = MappingProxyType({"AlibiDetect": ("saved",)})
"""Parameters that name files or directories: relative ones are relative to the configuration."""


def is_online(detector_type: str) -> bool:
    """Whether it judges a stream row by row; known without importing the detector.

    >>> is_online("MMDDriftOnline"), is_online("MMDDrift")
    (True, False)
    """
    return detector_type in DETECTOR_TYPES and detector_type.endswith("Online")


def load_class(detector_type: str) -> type[Any]:
    """The class of a detector type; its module is imported now.

    Raises
    ------
    DetectorError : no such type; the message names the nearest one.

    >>> load_class("IForest").__name__
    'IForest'
    """
    target = DETECTOR_TYPES.get(detector_type)
    if target is None:
        known = ", ".join(DETECTOR_TYPES)
        raise DetectorError(
            f"unknown detector type {detector_type!r}{_nearest(detector_type, DETECTOR_TYPES)} (known: {known})"
        )
    module, _, name = target.partition(":")
    found: type[Any] = getattr(importlib.import_module(module), name)
    return found


def requires(detector_type: str, params: Mapping[str, Any]) -> tuple[str, ...]:
    """Packages that a detector needs beyond the core's; :func:`detectors.extras.how_to_have` says how to have them.

    >>> requires("KNN", {}), requires("ClassifierDrift", {"model": "mlp"})
    ((), ('torch',))
    """
    cls = load_class(detector_type)
    by_params = getattr(cls, "required", None)
    found: tuple[str, ...] = getattr(cls, "requires", ()) if by_params is None else by_params(params)
    return found


def runs_code(detector_type: str, params: Mapping[str, Any]) -> bool:
    """Whether a detector runs code that is not ours: a program or a function that the parameters name.

    >>> runs_code("KNN", {}), runs_code("AdversarialAE", {"model": "classifier.pt2"})
    (False, True)
    """
    by_params = getattr(load_class(detector_type), "runs_code", None)
    return by_params is not None and bool(by_params(params))


def create(detector_type: str, **params: Any) -> Detector:
    """A new, unfitted detector.

    Raises
    ------
    DetectorError : unknown type, unknown or missing parameter, or a value out of range.

    >>> create("KNN", k=3).meta.params["k"]
    3
    """
    cls = load_class(detector_type)
    problems = [*_check_names(detector_type, cls, params), *_check_types(detector_type, cls, params)]
    if problems:
        raise DetectorError("; ".join(problem.text for problem in problems))
    try:
        made: Detector = cls(**params)
    except DetectorError:
        raise
    except TypeError as error:
        raise DetectorError(f"{detector_type}: a parameter has the wrong type: {error}") from error
    return made


def check_params(detector_type: str, params: Mapping[str, Any]) -> list[str]:
    """What is wrong with the parameters of a detector type, one sentence each; empty if nothing is.

    >>> check_params("KNN", {"kk": 3}), check_params("KNN", {"k": "three"})
    (["KNN has no parameter 'kk'; did you mean 'k'?"], ["KNN: k must be a whole number, got 'three'"])
    """
    return [problem.text for problem in sift_params(detector_type, params)[1]]


class Problem(NamedTuple):
    """What is wrong with a parameter; ``parameter`` is empty where it is none that was given."""

    parameter: str
    text: str


def sift_params(detector_type: str, params: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The parameters that can be used, and what is wrong with the others.

    Names and types are checked against the constructor, which then judges the values, as often as it finds one wrong.

    >>> usable, problems = sift_params("KNN", {"k": 0, "share": 7, "seed": 1})
    >>> usable, [problem.parameter for problem in problems]
    ({'seed': 1}, ['k', 'share'])
    """
    try:
        cls = load_class(detector_type)
    except DetectorError as error:
        return {}, [Problem("", str(error))]
    problems = [*_check_names(detector_type, cls, params), *_check_types(detector_type, cls, params)]
    wrong = {problem.parameter for problem in problems}
    left = {name: value for name, value in params.items() if name not in wrong}
    while not any(problem.parameter == "" for problem in problems):
        try:
            cls(**left)
        except ImportError:  # an extra that is missing here says nothing about the parameters
            break
        except (TypeError, ValueError) as error:
            named = _first_named(left, str(error))
            problems.append(Problem(named, f"{detector_type}: {error}"))
            left.pop(named, None)
        else:
            break
    return left, problems


def _first_named(names: Iterable[str], text: str) -> str:
    """Which of the names comes first in the sentence; ``""`` if none does."""
    places = {name: found.start() for name in names if (found := re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text))}
    return min(places, key=lambda name: places[name], default="")


def _check_names(detector_type: str, cls: type[Any], params: Mapping[str, Any]) -> Iterator[Problem]:
    accepted = inspect.signature(cls).parameters
    for name in params:
        if name not in accepted:
            nearest = _nearest(name, accepted) or f" (it has: {', '.join(accepted)})"
            yield Problem(name, f"{detector_type} has no parameter {name!r}{nearest}")
    for name, parameter in accepted.items():
        if parameter.default is inspect.Parameter.empty and name not in params:
            yield Problem("", f"{detector_type} needs the parameter {name!r}")


def _check_types(detector_type: str, cls: type[Any], params: Mapping[str, Any]) -> Iterator[Problem]:
    for text in wrong_types(cls, params):
        yield Problem(_first_named(params, text), f"{detector_type}: {text}")


def _nearest(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"``, or nothing when no known word is near. Case does not count."""
    folded = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.5)
    return f"; did you mean {folded[found[0]]!r}?" if found else ""
