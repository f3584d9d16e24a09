"""Small networks for sequences, tables and geometry, and two whose numbers leave the range of float16."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, nn

from benchmarks.precision.vision import Head, conv_bn

LARGEST = 3e8  # the magnitude of a feature of a table, as a time stamp has it


class Conformer(nn.Module):
    """Two blocks of a Conformer (Gulati et al. 2020): feed-forward, masked attention, a depthwise convolution with BN.

    `style` says how positions that are masked out become improbable; one sequence is masked out wholly.
    """

    def __init__(self, style: str, features: int = 64, heads: int = 4, blocks: int = 2) -> None:
        super().__init__()
        self.style, self.heads = style, heads
        self.blocks = nn.ModuleList(nn.ModuleDict(self._block(features)) for _ in range(blocks))
        self.head = nn.Linear(features, 32)

    @staticmethod
    def _block(features: int) -> dict[str, nn.Module]:
        wide = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, 4 * features), nn.SiLU())
        return {
            "feed": nn.Sequential(wide, nn.Linear(4 * features, features)),
            "norm": nn.LayerNorm(features),
            "qkv": nn.Linear(features, 3 * features),
            "out": nn.Linear(features, features),
            "before": nn.LayerNorm(features),
            "expand": nn.Conv1d(features, 2 * features, 1),
            "depthwise": nn.Conv1d(features, features, 15, padding=7, groups=features, bias=False),
            "batch": nn.BatchNorm1d(features),
            "contract": nn.Conv1d(features, features, 1),
            "after": nn.LayerNorm(features),
        }

    def _attention(self, scores: Tensor, mask: Tensor) -> Tensor:
        if self.style == "-1e9":
            return (scores + (1 - mask.to(scores.dtype)) * -1e9).softmax(-1)
        if self.style == "lowest":
            return scores.masked_fill(~mask, torch.finfo(torch.float32).min).softmax(-1)
        p = scores.masked_fill(~mask, -math.inf).softmax(-1)
        return torch.where(mask, p, torch.zeros_like(p))  # a row without any is NaN until here

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        batch, time, features = x.shape
        mask = (torch.arange(time)[None, :] < lengths[:, None])[:, None, None, :]
        for block in self.blocks:
            x = x + 0.5 * block["feed"](x)
            qkv = block["qkv"](block["norm"](x)).view(batch, time, 3, self.heads, features // self.heads)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            p = self._attention((q @ k.transpose(-2, -1)) / math.sqrt(features // self.heads), mask)
            x = x + block["out"]((p @ v).transpose(1, 2).reshape(batch, time, features))
            y = F.glu(block["expand"](block["before"](x).transpose(1, 2)), dim=1)
            y = F.silu(block["batch"](block["depthwise"](y)))
            x = block["after"](x + block["contract"](y).transpose(1, 2))
        return self.head(x)


class Recurrent(nn.Module):
    """A convolution with BN, a GRU and a bidirectional LSTM."""

    def __init__(self, features: int = 48) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(16, features, 5, padding=2), nn.BatchNorm1d(features)
        self.gru = nn.GRU(features, 64, batch_first=True)
        self.lstm = nn.LSTM(64, 64, batch_first=True, bidirectional=True)
        self.head = nn.Linear(128, 32)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.conv(x))).transpose(1, 2)
        y, _ = self.gru(y)
        y, _ = self.lstm(y)
        return F.log_softmax(self.head(y), -1)


class Tabular(nn.Module):
    """An MLP whose first layer normalizes features of very different magnitudes."""

    def __init__(self, features: int = 24) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.BatchNorm1d(features)]
        for a, b in ((features, 64), (64, 64), (64, 32)):
            layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(32, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Branch(nn.Module):
    """One of two layers, as a mean decides."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(features, features), nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.mean() > 0):  # noqa: SIM108  the exporter makes an If of it
            y = torch.relu(self.one(x))
        else:
            y = torch.tanh(self.other(x))
        return y


class Repeated(nn.Module):
    """A layer that is applied as often as an input says."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layer = nn.Linear(features, features)

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        for _ in range(int(times)):
            x = x + torch.tanh(self.layer(x))
        return x


class Control(nn.Module):
    """If and Loop between layers with BN; tracing would not see them."""

    is_scripted = True

    def __init__(self, features: int = 48) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(24, features), nn.BatchNorm1d(features), nn.ReLU())
        self.branch = Branch(features)
        self.repeated = Repeated(features)
        self.last = nn.Sequential(nn.BatchNorm1d(features), nn.Linear(features, 16))

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        return self.last(self.repeated(self.branch(self.first(x)), times))


class Sampling(nn.Module):
    """Resize, GridSample and TopK around convolutions, as detectors and registration networks have them."""

    def __init__(self, features: int = 24) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, features), nn.ReLU(), conv_bn(features, features, 3, 2), nn.ReLU())
        self.flow = nn.Conv2d(features, 2, 3, padding=1)
        self.score = nn.Sequential(conv_bn(features, features), nn.ReLU(), nn.Conv2d(features, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = F.interpolate(self.stem(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        rows, columns = torch.meshgrid(
            torch.linspace(-1, 1, y.shape[2], dtype=y.dtype),
            torch.linspace(-1, 1, y.shape[3], dtype=y.dtype),
            indexing="ij",
        )
        grid = torch.stack([columns, rows], -1)[None] + 0.05 * torch.tanh(self.flow(y)).permute(0, 2, 3, 1)
        y = F.grid_sample(y, grid, align_corners=True)
        scores = torch.sigmoid(self.score(y)).flatten(1)
        best, places = scores.topk(16, dim=1)
        picked = y.flatten(2).gather(2, places[:, None].expand(-1, y.shape[1], -1))
        return best, picked


class SmallVariance(nn.Module):
    """Channels of a variance near 1e-9, and BatchNormalizations whose epsilon is 1e-12."""

    def __init__(self, features: int = 32) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, features, 3, padding=1, bias=False), nn.BatchNorm2d(features, eps=1e-12)
        self.conv.weight.data *= 3e-5
        self.next = nn.Sequential(nn.ReLU(), conv_bn(features, features, 3, 2, eps=1e-12), nn.ReLU(), Head(features))

    def forward(self, x: Tensor) -> Tensor:
        return self.next(self.norm(self.conv(x)))


class Beyond(nn.Module):
    """Activations beyond 65504 between convolutions, which the next normalization brings back."""

    def __init__(self, features: int = 32, factor: float = 3e5) -> None:
        super().__init__()
        self.first = nn.Sequential(conv_bn(3, features), nn.ReLU())
        self.large = nn.Conv2d(features, features, 3, padding=1, bias=False)
        self.large.weight.data *= factor
        self.next = nn.Sequential(nn.ReLU(), conv_bn(features, features, 3, 2), nn.ReLU(), Head(features))

    def forward(self, x: Tensor) -> Tensor:
        return self.next(self.large(self.first(x)))


def images(batch: int, *, size: int = 64) -> tuple[Tensor, ...]:
    """Images in [0, 1), normalized as those of ImageNet are."""
    return ((torch.rand(batch, 3, size, size) - 0.45) / 0.225,)


def sequences(batch: int, *, time: int = 32, features: int = 64) -> tuple[Tensor, ...]:
    """Features over time, and how many of them count: of one sequence none."""
    lengths = torch.randint(time // 2, time + 1, (batch,))
    lengths[-1] = 0
    return torch.randn(batch, time, features), lengths


def signals(batch: int) -> tuple[Tensor, ...]:
    """16 channels over time."""
    return (torch.randn(batch, 16, 40),)


def tables(batch: int, *, features: int = 24) -> tuple[Tensor, ...]:
    """Features of magnitudes from 1e-3 to 3e8, with means of their own."""
    scale = torch.logspace(-3, math.log10(LARGEST), features)
    return (scale * (torch.randn(batch, features) * 0.3 + torch.linspace(-1, 1, features)),)


def controls(batch: int) -> tuple[Tensor, ...]:
    """Features, and how often the loop runs."""
    return torch.randn(batch, 24), torch.tensor(3)


conformers = {
    f"conformer, mask {style}": (partial(Conformer, style), sequences) for style in ("-1e9", "lowest", "-inf")
}
