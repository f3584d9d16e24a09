"""config.pbtxt: how NVIDIA's Triton Inference Server loads a model, in the text format of its `ModelConfig`.

Field names and types are those of `model_config.proto` (triton-inference-server/common), the rules those of
`docs/user_guide/model_configuration.md` (triton-inference-server/server). The backend for ONNX Runtime refuses a model
whose lengths differ from those of the configuration (`CompareDimsSupported` in onnxruntime_utils.cc of
triton-inference-server/onnxruntime_backend), and types that it does not list there. It takes a length of 1 for a tensor
without axes (`AutoCompleteIO` in onnxruntime.cc, since Triton 23.10); where there is no batch, the server refuses an
empty `reshape` for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.conversion.recipe import FIRST_AXIS, profile
from folding.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from folding.conversion.signature import Signature, Tensor
    from folding.options import Options

# By the name of an ONNX element type; of ModelConfig's types, the backend has no bfloat16
TYPES = {
    "float": "TYPE_FP32",
    "double": "TYPE_FP64",
    "float16": "TYPE_FP16",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64",
    "bool": "TYPE_BOOL",
    "string": "TYPE_STRING",
}
MAX_BATCH = FIRST_AXIS.longest  # the same as in the command lines for TensorRT
OPEN = -1  # a length that may differ from request to request
# By target: where Triton runs the model; where none is named it decides by itself
KINDS = {"onnxruntime-cpu": "KIND_CPU", "openvino": "KIND_CPU", "onnxruntime-cuda": "KIND_GPU"}
TENSORRT = "tensorrt"
ELSEWHERE = {"directml": "DirectML", "webgpu": "WebGPU"}  # runtimes that Triton has no way to


def require_servable(options: Options) -> None:
    """Refuse a target that is no runtime of Triton, before any work.

    Raises:
        OptionError: it names the targets that are.
    """
    if options.target in ELSEWHERE:
        others = "tensorrt-11, tensorrt-10, onnxruntime-cuda, onnxruntime-cpu, openvino"
        raise OptionError(
            f"triton: Triton does not run {ELSEWHERE[options.target]}; choose one of {others}, or no target"
        )


def configuration(name: str, what: Signature, options: Options) -> str:
    """The text of config.pbtxt for the model `name`.

    Raises:
        OptionError: Triton cannot serve the model: an input or output is no tensor, has an unknown rank, or a type
            that the backend does not take.
    """
    for role, tensors in (("input", what.inputs), ("output", what.outputs)):
        for tensor in tensors:
            _require_tensor(role, tensor)
    lines = [
        f"name: {quoted(name)}",
        'backend: "onnxruntime"',
        'platform: "onnxruntime_onnx"',
        f"max_batch_size: {MAX_BATCH if what.is_batched else 0}",
        *_tensors("input", what.inputs, is_batched=what.is_batched),
        *_tensors("output", what.outputs, is_batched=what.is_batched),
        *(["dynamic_batching { }"] if what.is_batched else []),
        *_where(options, what.inputs),
        *_warmup(what),
    ]
    return "\n".join(lines) + "\n"


def _require_tensor(role: str, tensor: Tensor) -> None:
    if tensor.kind not in TYPES:
        how = 'give io_types="keep"' if tensor.kind == "bfloat16" else "leave it out of the model"
        kind = f"is of type {tensor.kind}, which Triton does not take for ONNX Runtime"
        raise OptionError(f"triton: the {role} {tensor.name!r} {kind}; {how}")
    if tensor.dims is None:
        how = f"give its shape ({tensor.name}=...) as `shape`" if role == "input" else "export the model with its shape"
        raise OptionError(f"triton: the {role} {tensor.name!r} has an unknown number of axes; {how}")
    if 0 in tensor.dims:
        raise OptionError(f"triton: the {role} {tensor.name!r} has an axis of length 0; Triton takes no empty tensor")


def _dims(tensor: Tensor, *, is_batched: bool) -> list[int]:
    lengths = [dim if isinstance(dim, int) else OPEN for dim in tensor.dims or ()]
    return lengths[1:] if is_batched else lengths


def _tensors(role: str, tensors: Sequence[Tensor], *, is_batched: bool) -> Iterator[str]:
    for tensor in tensors:
        dims = _dims(tensor, is_batched=is_batched)
        yield f"{role} {{"
        yield f"  name: {quoted(tensor.name)}"
        yield f"  data_type: {TYPES[tensor.kind]}"
        yield f"  dims: {dims or [1]}"
        if is_batched and not dims:
            yield "  reshape { shape: [] }"
        yield "}"


def _where(options: Options, inputs: Sequence[Tensor]) -> Iterator[str]:
    """Where the model runs, as the target says."""
    target = options.target or ""
    kind = "KIND_GPU" if target.startswith(TENSORRT) else KINDS.get(target)
    if kind is not None:
        yield f"instance_group {{ kind: {kind} }}"
    if target.startswith(TENSORRT):
        yield from _accelerator("gpu", TENSORRT, _tensorrt(options, inputs))
    if target == "openvino":
        yield from _accelerator("cpu", "openvino", {})


def _accelerator(where: str, name: str, parameters: dict[str, str]) -> Iterator[str]:
    yield "optimization {"
    yield "  execution_accelerators {"
    yield f"    {where}_execution_accelerator {{"
    yield f"      name: {quoted(name)}"
    for key, value in parameters.items():
        yield f"      parameters {{ key: {quoted(key)} value: {quoted(value)} }}"
    yield "    }"
    yield "  }"
    yield "}"


def _tensorrt(options: Options, inputs: Sequence[Tensor]) -> dict[str, str]:
    """Options of ONNX Runtime's TensorRT provider: may it use float16, and the lengths that engines are made for."""
    given = [(tensor.name, tensor.kind, tensor.dims or ()) for tensor in inputs]
    shapes = {f"trt_profile_{which}_shapes": text for which, text in profile(given).items()}
    # TensorRT 10 computes in float32 what the file has in float16 unless it may not; 11 does as the file says
    lowered = options.target == "tensorrt-10" and options.precision in ("fp16", "mixed")
    return ({"precision_mode": "FP16"} if lowered else {}) | shapes


def _warmup(what: Signature) -> Iterator[str]:
    """One request before the first one, where all lengths are known. Zeros: random integers may be no valid index."""
    shapes = {tensor.name: _dims(tensor, is_batched=what.is_batched) for tensor in what.inputs}
    if not shapes or any(OPEN in dims for dims in shapes.values()):
        return
    yield "model_warmup {"
    yield '  name: "zeros"'
    yield "  batch_size: 1"
    for tensor in what.inputs:
        yield "  inputs {"
        yield f"    key: {quoted(tensor.name)}"
        yield f"    value {{ data_type: {TYPES[tensor.kind]} dims: {shapes[tensor.name] or [1]} zero_data: true }}"
        yield "  }"
    yield "}"


def quoted(text: str) -> str:
    """A string in protobuf's text format: bytes that are not plain ASCII as octal escapes."""
    plain = "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\' else f"\\{byte:03o}"  # printable ASCII
        for byte in text.encode("utf-8", "surrogateescape")
    )
    return f'"{plain}"'
