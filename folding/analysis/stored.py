"""The bytes of stored constants, of which only those are read that one asks for: sizes, samples, comparison."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper

from folding.analysis import constants
from folding.graph.dtypes import dtype_of
from folding.graph.weights import UnrepresentableError
from folding.onnxfile import Span
from folding.refusal import require

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from numpy.typing import NDArray

    from folding.graph.index import Scope
    from folding.graph.weights import Weight

SAMPLE = 1 << 12  # bytes at three places of a large constant
BLOCK = 1 << 18  # bytes that are compared at a time


def nbytes_of(scope: Scope, name: str) -> int | None:
    """The size of a stored constant, of which nothing is read; None if it is no initializer or has an odd type."""
    owner = scope.owner(name)
    if owner is None:
        return None
    if name in owner.weights:
        return owner.weights[name].nbytes
    tensor = owner.initializers.get(name)
    dtype = None if tensor is None else dtype_of(tensor.data_type)
    return None if tensor is None or dtype is None else math.prod(tensor.dims) * dtype.itemsize


@dataclass(frozen=True)
class Stored:
    """A constant: `form` is equal for constants whose bytes mean the same, `payload` has the bytes."""

    form: Hashable
    payload: Span | NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return self.payload.nbytes

    def read(self, start: int, stop: int) -> bytes:
        """The bytes of a range."""
        if isinstance(self.payload, Span):
            return self.payload.read(start, stop)
        return self.payload[start:stop].tobytes()

    def key(self) -> Hashable:
        """What is equal for equal constants, and differs for most others: a digest of at most three samples."""
        state = hashlib.blake2b(digest_size=16)
        for start in sorted({0, max(0, self.nbytes // 2 - SAMPLE // 2), max(0, self.nbytes - SAMPLE)}):
            state.update(self.read(start, min(start + SAMPLE, self.nbytes)))
        return self.form, self.nbytes, state.digest()

    def equals(self, other: Stored) -> bool:
        """Whether all bytes are the same; they are read block by block, up to the first difference."""
        if (self.form, self.nbytes) != (other.form, other.nbytes):
            return False
        if isinstance(self.payload, Span) and self.payload == other.payload:
            return True
        return all(self.read(*block) == other.read(*block) for block in self._blocks())

    def _blocks(self) -> Iterator[tuple[int, int]]:
        return ((start, min(start + BLOCK, self.nbytes)) for start in range(0, self.nbytes, BLOCK))


def stored(scope: Scope, name: str) -> Stored:
    """An initializer of this scope, or what replaced it; raises as `constants.weight` does."""
    if name in scope.weights:
        return _of_weight(scope.weights[name])
    tensor = scope.initializers[name]
    payload = scope.graph.file.payload(tensor)
    if not isinstance(payload, Span):
        return _of_array(constants.array(scope, name))
    plain = payload.field in {constants.RAW_FIELD, constants.EXTERNAL_FIELD, *constants.PLAIN_FIELDS}
    return Stored((tensor.data_type, tuple(tensor.dims), 0 if plain else payload.field), payload)


def _of_weight(weight: Weight) -> Stored:
    if weight.factors or (isinstance(weight.base, np.ndarray) and weight.base.dtype != weight.dtype):
        if 0 < weight.nbytes <= SAMPLE and (small := _evaluated(weight)) is not None:
            return small
        return Stored(weight.digest(), np.empty(0, np.uint8))  # a recipe, which equals the same recipe alone
    if isinstance(weight.base, np.ndarray):
        return _of_array(weight.base.reshape(weight.shape))
    return Stored((helper.np_dtype_to_tensor_dtype(weight.dtype), weight.shape, 0), weight.base)


def _evaluated(weight: Weight) -> Stored | None:
    """A small recipe as the bytes that will be written; None if its type does not hold them."""
    try:
        values = b"".join(bytes(weight.evaluate(*block)) for block in weight.blocks())
    except UnrepresentableError:
        return None
    code = helper.np_dtype_to_tensor_dtype(weight.dtype)
    return Stored((code, weight.shape, 0), np.frombuffer(values, np.uint8))


def _of_array(values: NDArray[Any]) -> Stored:
    require(not values.dtype.hasobject, "not-float", "strings have no bytes of one size")
    code = helper.np_dtype_to_tensor_dtype(values.dtype)
    return Stored((code, values.shape, 0), np.ascontiguousarray(values).reshape(-1).view(np.uint8))
