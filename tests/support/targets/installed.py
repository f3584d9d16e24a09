"""The packages that are installed here, asked what they have."""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tests.support.targets import kernels, probes
from tests.support.targets.kernels import Kernel
from tests.support.targets.rows import Row

if TYPE_CHECKING:
    import onnx
    from onnx import defs

    from tests.support.targets.rows import Rows

if TYPE_CHECKING:
    from tests.support.targets.rows import Rows

NAMES = {
    "CPUExecutionProvider": "onnxruntime-cpu",
    "CUDAExecutionProvider": "onnxruntime-cuda",
    "DmlExecutionProvider": "directml",
}
# Operators of ONNX Runtime's own domain that the plugin takes, asked once by hand: ONNX has no schema to probe them by.
WEBGPU_CONTRIBUTED = [
    f"com.microsoft::{name}"
    for name in (
        "Attention", "BiasAdd", "BiasGelu", "BiasSplitGelu", "FastGelu", "FusedConv", "GatherBlockQuantized", "Gelu",
        "GroupQueryAttention", "MatMulNBits", "MultiHeadAttention", "QMoE", "QuickGelu", "RotaryEmbedding",
        "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
    )
]  # fmt: skip
TO_COME = 2**31 - 1  # the last version of a kernel that has none


def onnxruntime() -> dict[str, Rows]:
    """The operators of each provider of the installed ONNX Runtime."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415  loaded when it is asked

    found: dict[str, dict[tuple[str, str], list[Kernel]]] = defaultdict(lambda: defaultdict(list))
    for kernel in state.get_all_opkernel_def():
        first, last = kernel.version_range
        types = {name: tensors(listed) for name, listed in kernel.type_constraints.items()}
        limited = {name: listed for name, listed in types.items() if listed}
        one = Kernel(first, None if last == TO_COME else last, limited)
        found[kernel.provider][kernel.domain, kernel.op_name].append(one)
    known = {NAMES[provider]: kernels.rows(listed) for provider, listed in found.items() if provider in NAMES}
    known["onnxruntime-cpu"] = kernels.expanded(known["onnxruntime-cpu"], _runs)  # it runs what no other provider has
    return known


def _runs(schema: defs.OpSchema, opset: int, types: dict[str, str]) -> bool:
    """Whether a session of a model of one operator starts, for these types and else the usual ones."""
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    model = probes.one_node(schema, opset, probes.usual_types(schema) | types)
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  those without a kernel say so; shapes and attributes are only a probe's
        known = ("NOT_IMPLEMENTED", "not currently registered", *(["INVALID_GRAPH"] if types else []))
        return not any(phrase in str(error) for phrase in known)
    return True


def tensors(types: list[str]) -> frozenset[str]:
    """The element types of tensors in "tensor(float)", "seq(tensor(float))"; of sequences nothing is kept."""
    return frozenset(found[1] for one in types if (found := re.fullmatch(r"tensor\((\w+)\)", one)))


def webgpu() -> Rows:
    """The operators that the plugin `onnxruntime-ep-webgpu` takes: the provider of each is asked of a session.

    It needs a graphics card, or software that acts as one; without it nothing is found.
    """
    import onnxruntime  # noqa: PLC0415
    import onnxruntime_ep_webgpu as plugin  # noqa: PLC0415

    onnxruntime.set_default_logger_severity(4)
    onnxruntime.register_execution_provider_library("webgpu", plugin.get_library_path())
    name = plugin.get_ep_name()
    device = next((one for one in onnxruntime.get_ep_devices() if one.ep_name == name), None)

    def takes(model: onnx.ModelProto) -> bool:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        options.add_provider_for_devices([device], {})
        with contextlib.suppress(Exception):  # a model that no provider takes, or that is not valid
            session = onnxruntime.InferenceSession(model.SerializeToString(), options)
            parts = [part for part in session.get_provider_graph_assignment_info() if part.ep_name == name]
            return any(node.op_type == model.graph.node[0].op_type for part in parts for node in part.get_nodes())
        return False

    if device is None:
        return {}
    found = probes.rows(takes)
    return found | {op: [Row(1, 1, {"T": frozenset({"float", "float16"})})] for op in WEBGPU_CONTRIBUTED}


def openvino() -> Rows:
    """The operators that OpenVINO has a conversion for. It chooses the types that it computes in."""
    import openvino as ov  # noqa: PLC0415

    core = ov.Core()

    def takes(model: onnx.ModelProto) -> bool:
        try:
            core.read_model(model.SerializeToString())
        except Exception as error:  # noqa: BLE001  also about shapes, which a probe has none of
            return "No conversion rule found" not in str(error)
        return True

    return probes.rows(takes, typed=False)


def asked() -> dict[str, Rows]:
    """The operators of all targets that can be asked here."""
    found = onnxruntime()
    if find_spec("onnxruntime_ep_webgpu"):
        found["webgpu"] = webgpu()
    if find_spec("openvino"):
        found["openvino"] = openvino()
    return {name: rows for name, rows in found.items() if rows}
