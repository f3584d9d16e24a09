"""Models in other clothes: the operators of a graph moved into a body or a function, constants as Constant nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from folding import Options


def in_branch(model: onnx.ModelProto, inside: Collection[str] = ()) -> onnx.ModelProto:
    """All operators in the branch of an If that is taken; initializers named in `inside` go with them."""
    result, body = _emptied(model, inside)
    zeros = [numpy_helper.from_array(np.zeros(_sizes(o), _kind(o)), f"zeros_{o.name}") for o in model.graph.output]
    names = [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in zeros]
    other = helper.make_graph([], "other", [], names, zeros)
    result.graph.initializer.append(numpy_helper.from_array(np.array(True), "taken"))
    outputs = _renamed(body)
    result.graph.node.append(helper.make_node("If", ["taken"], outputs, then_branch=body, else_branch=other))
    return result


def in_loop(model: onnx.ModelProto, inside: Collection[str] = ()) -> onnx.ModelProto:
    """All operators in the body of a Loop that is run once: its results get a leading axis of length 1."""
    result, body = _emptied(model, inside)
    outputs = _renamed(body)
    flag, number = (helper.make_tensor_value_info(n, t, []) for n, t in (("go_on", 9), ("number", 7)))
    body.input.extend([number, flag])
    body.node.insert(0, helper.make_node("Identity", ["go_on"], ["still"]))
    body.output.insert(0, helper.make_tensor_value_info("still", 9, []))
    result.graph.initializer.append(numpy_helper.from_array(np.array(1), "once"))
    result.graph.node.append(helper.make_node("Loop", ["once", ""], outputs, body=body))
    for output in result.graph.output:
        shape = output.type.tensor_type.shape
        sizes = list(shape.dim)
        del shape.dim[:]
        shape.dim.extend([onnx.TensorShapeProto.Dimension(dim_value=1), *sizes])
    return result


def in_function(model: onnx.ModelProto, inside: Collection[str] = (), calls: int = 1) -> onnx.ModelProto:
    """All operators in a function; it has the constants named in `inside`, the others are passed, doubled each call."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:], result.graph.output[:], result.graph.initializer[:]
    held = [constant_node(t) for t in model.graph.initializer if t.name in inside]
    passed = [tensor for tensor in model.graph.initializer if tensor.name not in inside]
    data = [value.name for value in model.graph.input if value.name not in {t.name for t in model.graph.initializer}]
    outputs = [value.name for value in model.graph.output]
    function = helper.make_function(
        "local", "wrapped", [*data, *(t.name for t in passed)], outputs, [*held, *model.graph.node], model.opset_import
    )
    result.functions.append(function)
    for number in range(calls):
        suffix = f"_call{number}" if number else ""  # Split ends names in numbers
        for tensor in passed:
            values = numpy_helper.to_array(tensor)
            values = values * 2**number if values.dtype.kind == "f" else values
            result.graph.initializer.append(numpy_helper.from_array(values, tensor.name + suffix))
        given = [*data, *(tensor.name + suffix for tensor in passed)]
        names = [name + suffix for name in outputs]
        result.graph.node.append(helper.make_node("wrapped", given, names, domain="local", name=f"call{number}"))
        for value in model.graph.output:
            result.graph.output.add().CopyFrom(value)
            result.graph.output[-1].name += suffix
    result.opset_import.append(helper.make_opsetid("local", 1))
    return result


def with_constant_nodes(model: onnx.ModelProto, names: Collection[str], *, sparse: bool = False) -> onnx.ModelProto:
    """These initializers as Constant nodes, sparse ones if asked for."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    chosen = [t for t in model.graph.initializer if t.name in names]
    rest = [t for t in model.graph.initializer if t.name not in names]
    del result.graph.initializer[:], result.graph.node[:]
    result.graph.initializer.extend(rest)
    made = [constant_node(t, sparse=sparse and len(t.dims) > 0 and all(t.dims)) for t in chosen]
    result.graph.node.extend([*made, *model.graph.node])
    return result


def with_open_shapes(model: onnx.ModelProto, axes: Collection[int]) -> onnx.ModelProto:
    """These axes of the inputs are of unknown length, and so are all of the outputs."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for value in result.graph.input:
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            if axis in axes:
                dimension.dim_param = f"D{axis}"
    for value in result.graph.output:
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            dimension.dim_param = f"{value.name}_{axis}"
    return result


def operators(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All operators of a model, nested ones and those of functions too."""
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [inner for attribute in node.attribute for inner in attribute.g.node]


def in_inference_mode(model: onnx.ModelProto, options: Options) -> onnx.ModelProto:
    """The model with the normalizations that `freeze_training` turns into inference mode turned so."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for node in operators(result):
        if options.freezes and options.selects(node.name):
            for attribute in node.attribute:
                attribute.i = 0 if attribute.name == "training_mode" else attribute.i
    return result


def constant_node(tensor: onnx.TensorProto, *, sparse: bool = False) -> onnx.NodeProto:
    """A Constant node that makes what an initializer holds."""
    if sparse:
        return helper.make_node("Constant", [], [tensor.name], sparse_value=sparse_tensor(tensor))
    return helper.make_node("Constant", [], [tensor.name], value=tensor)


def sparse_tensor(tensor: onnx.TensorProto) -> onnx.SparseTensorProto:
    """The same values in the sparse form, its indices flat."""
    values = numpy_helper.to_array(tensor)
    places = np.flatnonzero(values)
    held = numpy_helper.from_array(values.reshape(-1)[places], tensor.name)
    return helper.make_sparse_tensor(held, numpy_helper.from_array(places.astype(np.int64)), list(tensor.dims))


def _emptied(model: onnx.ModelProto, inside: Collection[str]) -> tuple[onnx.ModelProto, onnx.GraphProto]:
    """The model without its operators, and a body that holds them and these of the initializers."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    body = helper.make_graph(list(result.graph.node), "body", [], list(result.graph.output))
    rest = [t for t in result.graph.initializer if t.name not in inside]
    body.initializer.extend(t for t in result.graph.initializer if t.name in inside)
    del result.graph.node[:], result.graph.initializer[:]
    result.graph.initializer.extend(rest)
    return result, body


def _renamed(body: onnx.GraphProto) -> Sequence[str]:
    """Names for the results outside, which are those of the model; inside they get others."""
    outputs = [value.name for value in body.output]
    names = {name: f"{name}_inside" for name in outputs}
    for node in body.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in body.output:
        value.name = names[value.name]
    return outputs


def _sizes(value: onnx.ValueInfoProto) -> list[int]:
    return [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]


def _kind(value: onnx.ValueInfoProto) -> np.dtype:
    return helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
