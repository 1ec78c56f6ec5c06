"""A user's model as a program of ``torch.export``, and the rows that it is asked."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import Self

from detectors.base import Array, DetectorError

MAX_BYTES = 1 << 30


class Program:
    """A model of which only the graph and the weights are known.

    Loading one runs what it says: PyTorch evaluates expressions of the file. So only a file whose origin is trusted may
    be loaded; whoever calls :meth:`start` has made sure that it is allowed.
    """

    def __init__(self, content: bytes, shape: Sequence[int] | None) -> None:
        self.content = content
        self._shape = None if shape is None else tuple(shape)
        self._module: Any = None

    @classmethod
    def read(cls, path: str, sha256: str | None, shape: Sequence[int] | None) -> Self:
        """From a file that ``torch.export.save`` wrote.

        Raises
        ------
        DetectorError : it cannot be read, is larger than 1 GiB, or has another digest than ``sha256``.
        """
        try:
            with Path(path).open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise DetectorError(f"model {path} cannot be read: {error.strerror}") from None
        if len(content) > MAX_BYTES:
            raise DetectorError(f"model {path} is larger than {MAX_BYTES} bytes, the most that is read")
        found = hashlib.sha256(content).hexdigest()
        if sha256 is not None and found != sha256.lower():
            raise DetectorError(f"model {path} has the digest {found}, not {sha256}: it is another file")
        return cls(content, shape)

    def start(self, torch: Any, device: Any) -> None:
        """Load it.

        Raises
        ------
        DetectorError : it is no program that this version of torch can load.
        """
        import torch.export as export  # half a second of imports: only for those who have a program

        try:
            program = export.load(io.BytesIO(self.content))
            if device.type != "cpu":
                from torch.export.passes import move_to_device_pass

                program = move_to_device_pass(program, device)
            self._module = program.module()
        except Exception as error:  # whatever a damaged archive makes of it
            raise DetectorError(
                f"model is no program of torch.export that torch {torch.__version__} can load: "
                f"{type(error).__name__}: {str(error)[:200]}"
            ) from None

    def __call__(self, rows: Any) -> list[Any]:
        """Its outputs ``(n, k)`` for torch's ``rows`` ``(n, d)``, all as ``float64``; the first is the prediction.

        Raises
        ------
        DetectorError : it does not take such rows.
        """
        shaped = rows if self._shape is None else rows.reshape(len(rows), *self._shape)
        try:
            found = self._module(shaped.float())
        except Exception as error:  # the program is the user's, and may raise anything
            raise DetectorError(
                f"model does not take rows of the shape {tuple(shaped.shape)} (float32): export it with a first "
                f"dimension that may vary, and say input_shape if a row is no vector: {str(error)[:300]}"
            ) from None
        outputs = list(found) if isinstance(found, (tuple, list)) else [found]
        return [output.reshape(len(rows), -1).double() for output in outputs]

    def to_array(self) -> Any:
        return np.frombuffer(self.content, dtype=np.uint8)

    @classmethod
    def from_array(cls, array: Array, shape: Sequence[int] | None) -> Self:
        return cls(array.tobytes(), shape)
