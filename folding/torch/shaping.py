"""Shaping: pooling, reductions and operators that move elements, as ONNX's; the companion of `operators`."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch

from folding.torch.arguments import listed, require

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch.fx import Node as Fx

    from folding.torch.skeleton import Skeleton

    Arguments = dict[str, Any]
    Translation = Callable[[Skeleton, Fx, Arguments], object]

aten: Any = torch.ops.aten
PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}


def _integers(skeleton: Skeleton, node: Fx, suffix: str, values: Sequence[int]) -> str:
    return skeleton.added(node, suffix, torch.tensor(list(values), dtype=torch.int64))


def _first(a: Arguments) -> Any:
    return a.get("self", a.get("input"))


# --- pooling and reductions -----------------------------------------------------------------------------------


def _pool(op: str) -> Translation:
    def translation(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
        read = _first(a)
        rank = len(skeleton.shape(read)) - 2
        require(not a["ceil_mode"], a.get("divisor_override") is None, rank >= 1)
        kernel = listed(a["kernel_size"], rank)
        fixed: dict[str, Any] = {
            "kernel_shape": kernel,
            "strides": listed(a["stride"] or kernel, rank),
            "pads": listed(a["padding"], rank) * 2,
        }
        if op == "AveragePool":
            fixed["count_include_pad"] = int(a["count_include_pad"])
        else:
            fixed["dilations"] = listed(a["dilation"], rank)
        output = f"%{node.name}"
        if isinstance(node.meta["val"], (tuple, list)):  # with the indices of the largest elements
            require(not {user.args[1] for user in node.users if user.target is operator.getitem} - {0})
            output = f"{output}.0"
        skeleton.emit(op, node, [read], [output], **fixed)

    return translation


def _adaptive(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
    """An average over all, or over windows of one size, which tile the input."""
    read, wanted = _first(a), a["output_size"]
    sizes = skeleton.shape(read)[2:]
    goal = listed(wanted, len(sizes))
    if set(goal) == {1}:
        skeleton.emit("GlobalAveragePool", node, [read])
        return
    require(len(sizes) == len(goal), all(n is not None and n % g == 0 for n, g in zip(sizes, goal, strict=True)))
    kernel = [n // g for n, g in zip(sizes, goal, strict=True) if n is not None]
    skeleton.emit("AveragePool", node, [read], kernel_shape=kernel, strides=kernel)


def _reduce(op: str, *, as_input: bool = False) -> Translation:
    def translation(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
        read = _first(a)
        require(a.get("dtype") is None, skeleton.like(read).dtype == node.meta["val"].dtype)
        axes = a["dim"] if isinstance(a["dim"], (list, tuple)) else [a["dim"]] if a["dim"] is not None else []
        axes = list(axes) or list(range(len(skeleton.shape(read))))
        keep = int(bool(a["keepdim"]))
        if as_input:
            skeleton.emit(op, node, [read, _integers(skeleton, node, "axes", axes)], keepdims=keep)
        else:
            skeleton.emit(op, node, [read], axes=axes, keepdims=keep)

    return translation


# --- operators that move elements -----------------------------------------------------------------------------


def _reshape(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
    """Any operator that only regroups the elements in their order: ONNX needs only the shape of the result."""
    shape = list(skeleton.shape(node))
    require(shape.count(None) <= 1, 0 not in shape)
    sizes = [-1 if size is None else size for size in shape]
    skeleton.emit("Reshape", node, [_first(a), _integers(skeleton, node, "shape", sizes)])


def _permute(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
    read = _first(a)
    rank = len(skeleton.shape(read))
    order = list(range(rank))
    if "dims" in a:
        order = [int(axis) % rank for axis in a["dims"]]
    elif "dim0" in a:
        one, other = a["dim0"] % rank, a["dim1"] % rank
        order[one], order[other] = order[other], order[one]
    else:
        order.reverse()
    skeleton.emit("Transpose", node, [read], perm=order)


def _cat(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
    shapes = [skeleton.shape(one) for one in a["tensors"]]
    kinds = {skeleton.like(one).dtype for one in a["tensors"]}
    require(len({len(shape) for shape in shapes}) == 1, len(kinds) == 1)
    skeleton.emit("Concat", node, a["tensors"], axis=int(a["dim"]))


def _split(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
    read, axis = _first(a), int(a["dim"])
    parts = [part.shape[axis] for part in node.meta["val"]]
    require(all(isinstance(size, int) for size in parts))
    outputs = [f"%{node.name}.{place}" for place in range(len(parts))]
    for name, part in zip(outputs, node.meta["val"], strict=True):
        skeleton.note(name, part)
    skeleton.emit("Split", node, [read, _integers(skeleton, node, "split", parts)], outputs, axis=axis)


def _slice(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
    start, end, step = a["start"] or 0, a["end"], a["step"]
    end = torch.iinfo(torch.int64).max if end is None else end
    require(all(isinstance(one, int) for one in (start, end, step)))
    given = (("starts", start), ("ends", end), ("axes", a["dim"]), ("steps", step))
    skeleton.emit("Slice", node, [_first(a), *(_integers(skeleton, node, name, [one]) for name, one in given)])


def _select(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
    require(isinstance(a["index"], int))
    index = skeleton.added(node, "index", torch.tensor(a["index"], dtype=torch.int64))
    skeleton.emit("Gather", node, [_first(a), index], axis=int(a["dim"]))


def _expand(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
    shape = skeleton.shape(node)
    require(None not in shape)
    sizes = [size for size in shape if size is not None]
    skeleton.emit("Expand", node, [_first(a), _integers(skeleton, node, "shape", sizes)])


def _repeat(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
    read = _first(a)
    repeats = a["repeats"]
    require(len(repeats) == len(skeleton.shape(read)), all(isinstance(one, int) for one in repeats))
    skeleton.emit("Tile", node, [read, _integers(skeleton, node, "repeats", repeats)])


def _pad(mode: str | None) -> Translation:
    """A padding; ATen lists the two sides of each axis, the last axis first."""

    def translation(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
        read = _first(a)
        rank = len(skeleton.shape(read))
        given_sides: list[int] = a["pad"] if "pad" in a else a["padding"]
        sides = listed(given_sides, len(given_sides))
        kind = PAD_MODES.get(mode or a["mode"])
        require(kind is not None, min(sides, default=0) >= 0)
        begins, ends = [0] * rank, [0] * rank
        for place in range(len(sides) // 2):
            begins[rank - 1 - place], ends[rank - 1 - place] = sides[2 * place], sides[2 * place + 1]
        given = [_integers(skeleton, node, "pads", begins + ends)]
        if kind == "constant":
            value = a.get("value") or 0.0
            require(isinstance(value, (int, float)))
            given.append(skeleton.added(node, "value", torch.tensor(value, dtype=skeleton.like(read).dtype)))
        skeleton.emit("Pad", node, [read, *given], mode=kind)

    return translation


def _resize(mode: str) -> Translation:
    """A larger or smaller image; how the places are computed does not matter for what moves through it."""

    def translation(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
        read = a["input"]
        shape, before = skeleton.shape(node), skeleton.shape(read)
        aligned = bool(a.get("align_corners", False))
        fixed: dict[str, Any] = {
            "coordinate_transformation_mode": "align_corners" if aligned else "half_pixel",
            "mode": mode,
        }
        if mode == "nearest":
            fixed |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        if None not in shape:
            sizes = _integers(skeleton, node, "sizes", [size for size in shape if size is not None])
            skeleton.emit("Resize", node, [read, None, None, sizes], **fixed)
            return
        require(a["scale_factors"] is not None, None not in before[1:2])
        scales = torch.tensor([1.0, 1.0, *a["scale_factors"]])
        skeleton.emit("Resize", node, [read, None, skeleton.added(node, "scales", scales)], **fixed)

    return translation


def _pixel_shuffle(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
    require(len(skeleton.shape(_first(a))) == 4)
    skeleton.emit("DepthToSpace", node, [_first(a)], blocksize=int(a["upscale_factor"]), mode="CRD")


def _operators(*names: str) -> list[object]:
    """The operators of these names that this PyTorch has: "max_pool2d.default"."""
    found = []
    for name in names:
        packet, _, overload = name.partition(".")
        one = getattr(getattr(aten, packet, None), overload, None)
        if one is not None:
            found.append(one)
    return found


def _ranks(name: str) -> list[str]:
    return [name.replace("#", str(rank)) for rank in (1, 2, 3)]


TABLE: tuple[tuple[list[str], Translation], ...] = (
    ([*_ranks("max_pool#d.default"), *_ranks("max_pool#d_with_indices.default")], _pool("MaxPool")),
    (_ranks("avg_pool#d.default"), _pool("AveragePool")),
    ([*_ranks("adaptive_avg_pool#d.default"), *_ranks("_adaptive_avg_pool#d.default")], _adaptive),
    (["mean.dim"], _reduce("ReduceMean")),
    (["sum.dim_IntList"], _reduce("ReduceSum", as_input=True)),
    (["amax.default"], _reduce("ReduceMax")),
    (["amin.default"], _reduce("ReduceMin")),
    (["view.default", "reshape.default", "_unsafe_view.default", "flatten.using_ints", "unflatten.int"], _reshape),
    (["unsqueeze.default", "squeeze.dim", "squeeze.dims", "squeeze.default"], _reshape),
    (["permute.default", "transpose.int", "t.default"], _permute),
    (["cat.default"], _cat),
    (["split.Tensor", "split_with_sizes.default", "chunk.default"], _split),
    (["slice.Tensor"], _slice),
    (["select.int"], _select),
    (["expand.default"], _expand),
    (["repeat.default"], _repeat),
    (["pad.default"], _pad(None)),
    (["constant_pad_nd.default"], _pad("constant")),
    (_ranks("reflection_pad#d.default"), _pad("reflect")),
    (_ranks("replication_pad#d.default"), _pad("replicate")),
    (_ranks("upsample_nearest#d.vec"), _resize("nearest")),
    (["upsample_linear1d.vec", "upsample_bilinear2d.vec", "upsample_trilinear3d.vec"], _resize("linear")),
    (["pixel_shuffle.default"], _pixel_shuffle),
)
TRANSLATIONS: dict[object, Translation] = {
    target: translation for names, translation in TABLE for target in _operators(*names)
}
