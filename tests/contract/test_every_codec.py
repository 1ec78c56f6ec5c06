"""One suite over every codec: what comes back, and that whatever arrives is decoded or refused with a known reason."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from monitor.codecs.base import Codec, Tensor, Tensors
from monitor.codecs.detect import CODECS, REASONS, sniff
from monitor.events import InvalidEvent

NAMES = {"v1": "instances", "v2": "x", "seldon": "ndarray", "v1-grpc": "x", "v2-grpc": "x", "seldon-grpc": "tensor"}
"""What a single tensor is called in each protocol: V1 and SeldonMessage have no free names."""

VALID = {
    "v1": b'{"instances": [[1, 2.5, null], [4, 5, 6]]}',
    "v2": b'{"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP64", "data": [1, 2, 3, 4]}]}',
    "seldon": b'{"data": {"names": ["a", "b"], "tensor": {"shape": [1, 2], "values": [1, 2]}}, "meta": {}}',
}

codecs = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
of_json = pytest.mark.parametrize("codec", [CODECS[name] for name in VALID], ids=VALID)
matrices = st.sampled_from([np.float64, np.float32, np.int64, np.int32, np.uint8]).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=30),
        elements=hnp.from_dtype(np.dtype(dtype), allow_nan=False, allow_infinity=False),
    )
)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)
WORDS = """instances predictions inputs outputs name shape datatype data parameters binary_data_size names ndarray
tensor values tftensor dtype tensorShape dim size tensorContent doubleVal strData binData jsonData meta b64"""
keys = st.sampled_from(WORDS.split())
messages = st.recursive(
    st.one_of(anything, st.sampled_from(["FP64", "BYTES", "BOOL", "DT_DOUBLE", "AAAA"]), st.lists(st.integers(0, 3))),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=30,
)


def decoded_or_refused(decode: Callable[[], Tensors]) -> None:
    """Any other exception, or an unknown reason, fails the test."""
    refused: InvalidEvent | None = None
    tensors: Tensors = {}
    try:
        tensors = decode()
    except InvalidEvent as error:
        refused = error
    assert refused is None or (refused.reason in REASONS and str(refused))
    assert all(isinstance(tensor, Tensor) and tensor.data.ndim for tensor in tensors.values())


def test_every_codec_has_its_cases() -> None:
    assert CODECS.keys() == NAMES.keys()
    assert VALID.keys() == {name for name in CODECS if not name.endswith("-grpc")}


@codecs
@given(matrices)
def test_what_is_encoded_is_decoded(codec: Codec, x: np.ndarray[Any, Any]) -> None:
    name = NAMES[codec.name]
    found = codec.decode(codec.encode({name: Tensor(name, x)}), {})[name].data
    assert found.shape == x.shape
    assert found.dtype == np.float64
    assert np.allclose(found, x.astype(np.float64), rtol=1e-6, atol=0)


@codecs
def test_nan_is_null_and_back(codec: Codec) -> None:
    name = NAMES[codec.name]
    body = codec.encode({name: Tensor(name, np.array([[1.0, np.nan]]))})
    found = codec.decode(body, {})[name].data.astype(object).tolist()
    assert found[0][0] == 1
    assert found[0][1] is None or math.isnan(found[0][1])


@of_json
def test_every_prefix_is_refused(codec: Codec) -> None:
    body = VALID[codec.name]
    codec.decode(body, {})
    for end in range(len(body)):
        with pytest.raises(InvalidEvent) as refused:
            codec.decode(body[:end], {})
        assert refused.value.reason in ("invalid_json", "empty_body")


@codecs
@given(st.binary(max_size=200))
def test_any_bytes(codec: Codec, body: bytes) -> None:
    decoded_or_refused(lambda: codec.decode(body, {}))


@of_json
@given(messages)
def test_any_json(codec: Codec, message: Any) -> None:
    decoded_or_refused(lambda: codec.decode(json.dumps(message).encode(), {}))


@of_json
@given(messages)
def test_any_json_behind_a_valid_start(codec: Codec, message: Any) -> None:
    body = json.loads(VALID[codec.name])
    body |= message if isinstance(message, dict) else {"instances": message, "inputs": message, "data": message}
    decoded_or_refused(lambda: codec.decode(json.dumps(body).encode(), {}))


@given(messages)
def test_any_json_without_a_name(message: Any) -> None:
    decoded_or_refused(lambda: sniff(json.dumps(message).encode(), {}))
