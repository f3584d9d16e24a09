"""A folded graph is written with PyTorch's public functions: they compute the same, and its quantization knows them."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from folding import fold_module  # noqa: E402
from folding.torch.public import PUBLIC, write_publicly  # noqa: E402
from tests.support.torch.modules import trained  # noqa: E402

aten = torch.ops.aten
# Arguments behind the first one, a tensor of shape (2, 3, 4, 4): all that a function takes by place
ARGUMENTS = {
    aten.hardtanh.default: (-0.5, 0.5),
    aten.leaky_relu.default: (0.2,),
    aten.elu.default: (0.7,),
    aten.clamp.default: (-0.1, 0.3),
    aten.mean.dim: ([2, 3], True),
    aten.flatten.using_ints: (1, 2),
    aten.softmax.int: (1,),
    aten.permute.default: ([0, 2, 3, 1],),
    aten.reshape.default: ([2, -1],),
    aten.transpose.int: (1, 3),
    aten.view.default: ([2, 48],),
    aten.squeeze.dim: (1,),
    aten.unsqueeze.default: (1,),
}
LISTS = {aten.cat.default, aten.stack.default}
BINARY = {aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.matmul.default}
POOLS = {f"{kind}_pool{rank}d": rank for kind in ("max", "avg", "adaptive_avg") for rank in (1, 2, 3)}


def called(target, *args, **kwargs):
    """A graph of one call of its input."""
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    node = graph.call_function(target, ([x, x], *args) if target in LISTS else (x, *args), kwargs)
    graph.output(node)
    return graph, node


def arguments(target):
    """What a call has behind its first argument."""
    if rank := POOLS.get(target._schema.name.removeprefix("aten::")):
        if "adaptive" in target._schema.name:
            return ([2] * rank,)
        three = [2] * rank, [1] * rank, [1] * rank
        return (*three, [1] * rank, True) if "max" in target._schema.name else (*three, True, False)
    return (1,) if target in LISTS else ARGUMENTS.get(target, ())


@pytest.mark.parametrize("target", PUBLIC, ids=str)
def test_the_function_computes_what_the_operator_does(target):
    x = torch.randn(2, 3, *([4] * max(2, POOLS.get(target._schema.name.removeprefix("aten::"), 2))))
    x = x[..., 0] if POOLS.get(target._schema.name.removeprefix("aten::")) == 1 else x
    graph, node = called(target, *arguments(target))
    if target in BINARY:
        node.args = (node.args[0], node.args[0])
    exact = torch.fx.GraphModule(torch.nn.Module(), copy.deepcopy(graph))(x)
    write_publicly(graph)
    assert node.target is PUBLIC[target].target
    assert torch.equal(torch.fx.GraphModule(torch.nn.Module(), graph)(x), exact)


@pytest.mark.parametrize(
    ("target", "args", "kwargs"),
    [
        (aten.add.Tensor, (2.0,), {"alpha": 3}),
        (aten.softmax.int, (1, torch.float64), {}),
        (aten.elu.default, (1.0, 2.0), {}),
        (aten.mean.dim, ([1],), {"dtype": torch.float64}),
        (aten.neg.default, (), {}),
    ],
)
def test_a_call_with_other_arguments_stays(target, args, kwargs):
    graph, node = called(target, *args, **kwargs)
    write_publicly(graph)
    assert node.target is target


class Residual(torch.nn.Module):
    """Two convolutions, with a sum that a rectifier follows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = torch.nn.Conv2d(3, 3, 3, padding=1), torch.nn.BatchNorm2d(3)
        self.conv2, self.bn2 = torch.nn.Conv2d(3, 3, 3, padding=1), torch.nn.BatchNorm2d(3)

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + x)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_quantization_fuses_what_follows_a_convolution_and_a_sum():
    from torch.ao.quantization import get_default_qconfig_mapping, quantize_fx  # noqa: PLC0415

    x = torch.randn(2, 3, 8, 8)
    prepared = quantize_fx.prepare_fx(fold_module(trained(Residual()), x), get_default_qconfig_mapping("fbgemm"), (x,))
    prepared(x)
    quantized = quantize_fx.convert_fx(prepared)
    assert type(quantized.conv1).__name__ == "ConvReLU2d"
    assert torch.ops.quantized.add_relu in {node.target for node in quantized.graph.nodes}
