"""Check that a tensor's data has the length that its dims and type require."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from onnx import TensorProto

from folding.errors import ModelError
from folding.onnxfile.skeleton import count_varints
from folding.onnxfile.wire import PACKED_VARINTS, TENSOR, TENSOR_EXTERNAL_DATA, WireError

if TYPE_CHECKING:
    from folding.onnxfile.sources import Span

# Bits of an element in raw_data, by the names of TensorProto.DataType (onnx.proto); older packages lack some of them.
_BITS_BY_NAME = {
    **dict.fromkeys(("COMPLEX128",), 128),
    **dict.fromkeys(("DOUBLE", "INT64", "UINT64", "COMPLEX64"), 64),
    **dict.fromkeys(("FLOAT", "INT32", "UINT32"), 32),
    **dict.fromkeys(("FLOAT16", "BFLOAT16", "INT16", "UINT16"), 16),
    **dict.fromkeys(("INT8", "UINT8", "BOOL", "FLOAT8E8M0"), 8),
    **dict.fromkeys(("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"), 8),
    **dict.fromkeys(("FLOAT6E2M3", "FLOAT6E3M2"), 6),
    **dict.fromkeys(("INT4", "UINT4", "FLOAT4E2M1"), 4),
    **dict.fromkeys(("INT2", "UINT2"), 2),
}
_NUMBERS = dict(TensorProto.DataType.items())
BITS: dict[int, int] = {_NUMBERS[name]: bits for name, bits in _BITS_BY_NAME.items() if name in _NUMBERS}
_BYTE = 8  # bits
_PACKED_BITS = {2, 4}  # widths for which each entry of int32_data holds a whole byte
_INT32_DATA = "int32_data"
# The field of elements that are not in raw_data, and its entries per element; all other types use int32_data.
_TYPED: dict[int, tuple[str, int]] = {
    TensorProto.FLOAT: ("float_data", 1),
    TensorProto.COMPLEX64: ("float_data", 2),
    TensorProto.DOUBLE: ("double_data", 1),
    TensorProto.COMPLEX128: ("double_data", 2),
    TensorProto.INT64: ("int64_data", 1),
    TensorProto.UINT32: ("uint64_data", 1),
    TensorProto.UINT64: ("uint64_data", 1),
    TensorProto.STRING: ("string_data", 1),
}
_DATA_FIELDS = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
_data_of = attrgetter(*_DATA_FIELDS)
_FIELD_NAMES = {number: TensorProto.DESCRIPTOR.fields_by_number[number].name for number in TENSOR.payloads}
_DIMENSION_MAX = 2**63 - 1  # dims are int64, and so is their product in every runtime
_BLOCK = 1 << 20  # bytes of packed numbers checked at a time


def type_name(data_type: int) -> str:
    """The name of a TensorProto.DataType, or its number if it has no name."""
    return next((name for name, number in _NUMBERS.items() if number == data_type), str(data_type))


def element_count(dims: Any, label: str) -> int:
    """The product of the dims.

    Raises:
        ModelError: one is negative, or the product does not fit in 64 bits.
    """
    count = 1
    dims = dims[:]
    for dim in dims:
        if dim < 0:
            raise ModelError(f"{label}: dimension {dim} is negative in shape {_shape(dims)}")
        count = count * dim if count <= _DIMENSION_MAX else count
    if 0 in dims:
        return 0
    if count > _DIMENSION_MAX:
        raise ModelError(f"{label}: shape {_shape(dims)} has more elements than 64 bits can count")
    return count


def _shape(dims: Any) -> str:
    shown = 8  # dimensions quoted; a hostile shape has thousands
    return f"[{', '.join(map(str, dims[:shown]))}{', ...' if len(dims) > shown else ''}]"


def raw_bytes(tensor: TensorProto, label: str) -> int | None:
    """The number of bytes in raw_data for a tensor's dims and type; None for a type without a fixed size.

    Raises:
        ModelError: as in `element_count`.
    """
    return _raw_bytes(tensor.data_type, element_count(tensor.dims, label))


def _raw_bytes(data_type: int, count: int) -> int | None:
    bits = BITS.get(data_type)
    return None if bits is None else -(-count * bits // _BYTE)


def check_tensor(tensor: TensorProto, span: Span | None, label: str) -> int:
    """Check that a tensor's data has the length that dims and type require; return its number of bytes.

    `span` is the data if it was taken out of the skeleton. A type that this onnx does not know is accepted.

    Raises:
        ModelError: the type is undefined, a dimension is negative, or the data has another length.
    """
    data_type = tensor.data_type
    if data_type == TensorProto.UNDEFINED:
        raise ModelError(f"{label}: the tensor has no data type")
    if tensor.HasField("segment"):
        raise ModelError(f"{label}: the tensor is a segment of a larger one; store it as a whole")
    count = element_count(tensor.dims, label)
    expected = _raw_bytes(data_type, count)
    if span is not None and span.field == TENSOR_EXTERNAL_DATA:
        return span.length  # compared with the dims when its file was opened
    field, found = _data(tensor, span, label)
    if field == "raw_data" and found == expected:
        return found
    if expected is not None or data_type == TensorProto.STRING:
        _check_length(tensor, field, found, count, label)
    return found if expected is None else expected


def stored_fields(tensor: TensorProto) -> list[str]:
    """The data fields of a tensor that are not empty."""
    return [name for name, data in zip(_DATA_FIELDS, _data_of(tensor), strict=True) if data]


def _data(tensor: TensorProto, span: Span | None, label: str) -> tuple[str, int]:
    """The one field that holds data, and its length: bytes of raw_data, entries of any other field."""
    if span is not None:
        return _FIELD_NAMES[span.field], _entries(span, label)
    filled = stored_fields(tensor)
    if len(filled) > 1:
        raise ModelError(f"{label}: the tensor has data in {' and '.join(filled)}; only one of them can be meant")
    return (filled[0], len(getattr(tensor, filled[0]))) if filled else ("", 0)


def _entries(span: Span, label: str) -> int:
    size = TENSOR.payloads[span.field]
    if size != PACKED_VARINTS:
        return span.length // size
    try:
        return count_varints(span.read(at, min(at + _BLOCK, span.length)) for at in range(0, span.length, _BLOCK))
    except WireError as error:  # the file was valid when it was read
        raise ModelError(f"{label}: the data {error}") from error


def _check_length(tensor: TensorProto, field: str, found: int, count: int, label: str) -> None:
    expected, unit = _raw_bytes(tensor.data_type, count), "bytes"
    if field != "raw_data" or expected is None:
        name, expected = _typed_entries(tensor.data_type, count)
        unit = "entries"
        if expected and field != name:
            what = f"its data are in {field}" if field else "it has no data"
            raise ModelError(
                f"{label}: a {type_name(tensor.data_type)} tensor needs {expected} entries in {name}, but {what}"
            )
    if found != expected:
        kind = type_name(tensor.data_type)
        raise ModelError(
            f"{label}: shape {_shape(tensor.dims)} of {kind} takes {expected} {unit}, but {field or 'it'} has {found}"
        )


def _typed_entries(data_type: int, count: int) -> tuple[str, int]:
    """The field that holds elements of a type one by one, and the number of entries that `count` elements take."""
    name, each = _TYPED.get(data_type, (_INT32_DATA, 1))
    bits = BITS.get(data_type, _BYTE)
    together = _BYTE // bits if bits in _PACKED_BITS else 1
    return name, -(-count * each // together)
