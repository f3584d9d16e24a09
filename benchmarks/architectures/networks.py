"""Networks that no package of the survey has, written after their papers; small, because only the graph matters."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


def _block(linear: nn.Module, normalization: nn.Module, activation: nn.Module | None = None) -> list[nn.Module]:
    return [linear, normalization, activation or nn.ReLU()]


class MLP(nn.Sequential):
    """Linear, BatchNorm, ReLU (Ioffe & Szegedy 2015, section 4.1), and one normalization after the activation."""

    def __init__(self, features: int = 64, width: int = 128, classes: int = 10) -> None:
        super().__init__(
            *_block(nn.Linear(features, width), nn.BatchNorm1d(width)),
            *_block(nn.Linear(width, width, bias=False), nn.BatchNorm1d(width)),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.BatchNorm1d(width),
            nn.Dropout(),
            nn.Linear(width, classes),
        )


class DCGANGenerator(nn.Sequential):
    """Transposed convolutions from a vector to an image (Radford et al. 2015, figure 1)."""

    def __init__(self, features: int = 100, width: int = 32) -> None:
        sizes = [width * 8, width * 4, width * 2, width]
        blocks = _block(nn.ConvTranspose2d(features, sizes[0], 4, 1, 0, bias=False), nn.BatchNorm2d(sizes[0]))
        for inputs, outputs in pairwise(sizes):
            blocks += _block(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs))
        super().__init__(*blocks, nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False), nn.Tanh())


class DCGANDiscriminator(nn.Sequential):
    """The generator's opposite, with LeakyReLU (Radford et al. 2015, section 3)."""

    def __init__(self, width: int = 32) -> None:
        blocks: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
        for inputs, outputs in ((width, width * 2), (width * 2, width * 4), (width * 4, width * 8)):
            linear = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)
            blocks += _block(linear, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2))
        super().__init__(*blocks, nn.Conv2d(width * 8, 1, 4, 1, 0, bias=False), nn.Sigmoid())


class _Transformation(nn.Module):
    """PointNet's T-Net: a matrix of `size` x `size` from all points."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.points = nn.Sequential(
            *_block(nn.Conv1d(size, 64, 1), nn.BatchNorm1d(64)), *_block(nn.Conv1d(64, 128, 1), nn.BatchNorm1d(128))
        )
        self.cloud = nn.Sequential(*_block(nn.Linear(128, 64), nn.BatchNorm1d(64)), nn.Linear(64, size * size))

    def forward(self, x: Tensor) -> Tensor:
        cloud = self.points(x).amax(dim=2)
        return self.cloud(cloud).view(-1, self.size, self.size) + torch.eye(self.size)


class PointNet(nn.Module):
    """Point clouds: convolutions of size 1, learned transformations, a maximum over the points (Qi et al. 2016)."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.input, self.feature = _Transformation(3), _Transformation(64)
        self.first = nn.Sequential(*_block(nn.Conv1d(3, 64, 1), nn.BatchNorm1d(64)))
        self.second = nn.Sequential(
            *_block(nn.Conv1d(64, 128, 1), nn.BatchNorm1d(128)), nn.Conv1d(128, 256, 1), nn.BatchNorm1d(256)
        )
        self.head = nn.Sequential(
            *_block(nn.Linear(256, 128), nn.BatchNorm1d(128)),
            nn.Linear(128, 64),
            nn.Dropout(),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.Linear(64, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.bmm(x.transpose(2, 1), self.input(x)).transpose(2, 1)
        x = self.first(x)
        x = torch.bmm(x.transpose(2, 1), self.feature(x)).transpose(2, 1)
        return self.head(self.second(x).amax(dim=2))


class M5(nn.Module):
    """A network for raw audio, with 1-d convolutions only (Dai et al. 2016, table 1)."""

    def __init__(self, width: int = 32, classes: int = 10) -> None:
        super().__init__()
        blocks = [*_block(nn.Conv1d(1, width, 80, 4), nn.BatchNorm1d(width)), nn.MaxPool1d(4)]
        for inputs, outputs in ((width, width), (width, 2 * width), (2 * width, 2 * width)):
            blocks += [*_block(nn.Conv1d(inputs, outputs, 3), nn.BatchNorm1d(outputs)), nn.MaxPool1d(4)]
        self.features, self.head = nn.Sequential(*blocks), nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(dim=2)).log_softmax(dim=1)


class _Separable(nn.Module):
    """QuartzNet's block: separable 1-d convolutions and a normalized shortcut."""

    def __init__(self, inputs: int, outputs: int, kernel: int, repeats: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(repeats):
            channels = outputs if index else inputs
            depthwise = nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)
            layers += [depthwise, *_block(nn.Conv1d(channels, outputs, 1, bias=False), nn.BatchNorm1d(outputs))]
        self.body = nn.Sequential(*layers[:-1])
        self.shortcut = nn.Sequential(nn.Conv1d(inputs, outputs, 1, bias=False), nn.BatchNorm1d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class QuartzNet(nn.Sequential):
    """Speech from spectra, 1-d separable convolutions (Kriman et al. 2019, figure 1)."""

    def __init__(self, features: int = 64, letters: int = 29) -> None:
        super().__init__(
            *_block(nn.Conv1d(features, 64, 33, 2, 16, bias=False), nn.BatchNorm1d(64)),
            _Separable(64, 64, 33, 3),
            _Separable(64, 128, 39, 3),
            nn.Conv1d(128, letters, 1),
            nn.LogSoftmax(dim=1),
        )


class DeepSpeech2(nn.Module):
    """Convolutions over a spectrum, then recurrent layers with a normalization between them (Amodei et al. 2015)."""

    def __init__(self, frequencies: int = 64, width: int = 48, letters: int = 29) -> None:
        super().__init__()
        self.spectrum = nn.Sequential(
            *_block(nn.Conv2d(1, 16, (11, 5), (2, 1), (5, 2)), nn.BatchNorm2d(16), nn.Hardtanh(0, 20)),
            *_block(nn.Conv2d(16, 16, (11, 5), (2, 1), (5, 2)), nn.BatchNorm2d(16), nn.Hardtanh(0, 20)),
        )
        self.first = nn.LSTM(16 * frequencies // 4, width, batch_first=True, bidirectional=True)
        self.between = nn.BatchNorm1d(2 * width)
        self.second = nn.LSTM(2 * width, width, batch_first=True, bidirectional=True)
        self.after, self.head = nn.BatchNorm1d(2 * width), nn.Linear(2 * width, letters)

    def forward(self, x: Tensor) -> Tensor:
        x = self.spectrum(x).flatten(1, 2).transpose(1, 2)
        x = self.between(self.first(x)[0].transpose(1, 2)).transpose(1, 2)
        x = self.after(self.second(x)[0].transpose(1, 2)).transpose(1, 2)
        return self.head(x)


class _Skeleton(nn.Module):
    """ST-GCN's block: a convolution over the joints' neighbourhoods, then one over time."""

    def __init__(self, inputs: int, outputs: int, joints: int, neighbourhoods: int = 3) -> None:
        super().__init__()
        self.neighbourhoods = neighbourhoods
        self.register_buffer("adjacency", torch.rand(neighbourhoods, joints, joints) / joints)
        self.space = nn.Conv2d(inputs, outputs * neighbourhoods, 1)
        self.time = nn.Sequential(
            *_block(nn.BatchNorm2d(outputs), nn.ReLU(), nn.Conv2d(outputs, outputs, (9, 1), padding=(4, 0))),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.space(x)
        y = y.view(y.shape[0], self.neighbourhoods, -1, *y.shape[2:])
        y = torch.einsum("nkctv,kvw->nctw", y, self.adjacency)
        return torch.relu(self.time(y) + self.shortcut(x))


class STGCN(nn.Module):
    """Actions from skeletons; the input itself is normalized, each coordinate of each joint (Yan et al. 2018)."""

    def __init__(self, channels: int = 3, joints: int = 18, classes: int = 10) -> None:
        super().__init__()
        self.joints = nn.BatchNorm1d(channels * joints)
        self.body = nn.Sequential(_Skeleton(channels, 32, joints), _Skeleton(32, 64, joints))
        self.head = nn.Conv2d(64, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, time, joints = x.shape
        x = x.permute(0, 3, 1, 2).reshape(batch, joints * channels, time)
        x = self.joints(x).view(batch, joints, channels, time).permute(0, 2, 3, 1)
        x = self.body(x).mean(dim=(2, 3), keepdim=True)
        return self.head(x).flatten(1)
