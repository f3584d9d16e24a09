"""Train a network on labelled images: the same weights each time on one machine, from a seed and on one thread."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor

from benchmarks.quantization.digits.networks import NETWORKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from torch import nn
    from torch.optim import Optimizer

SEED = 20190611
EPOCHS, BATCH = 15, 50
SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=1e-4)
# Howard et al. (2017, section 3.2), Sandler et al. (2018, section 6.1) and Tan et al. (2019, section 5) use it.
RMSPROP = partial(torch.optim.RMSprop, lr=0.004, alpha=0.9, eps=1e-3, momentum=0.9, weight_decay=4e-5)
SHIFT = 1  # pixels that an image is moved by at most, in both directions
TRAINING, TESTS = 1000, 797  # images, of 1,797
CALIBRATION = 64  # of the images to train with: they give the ranges for 8 bits
SIZE = 16  # pixels; the images have 8


TRAINED: dict[str, tuple[str, Callable[[Iterable[Tensor]], Optimizer]]] = {
    "MobileNetV1": ("MobileNetV1", RMSPROP),
    "MobileNetV2": ("MobileNetV2", RMSPROP),
    "MobileNetV2, ReLU6": ("MobileNetV2, ReLU6", RMSPROP),
    "MobileNetV2, SGD": ("MobileNetV2", SGD),
    "MnasNet": ("MnasNet", RMSPROP),
    "FBNet-C, SGD": ("FBNet-C", SGD),
    "ResNet, SGD": ("ResNet", SGD),
}  # fmt: skip


class Labelled(NamedTuple):
    """Images of shape (number, 1, height, width), and the class of each."""

    images: Tensor
    labels: Tensor


def digits() -> tuple[Labelled, Labelled]:
    """The 1,797 handwritten digits that scikit-learn ships: those to train with, and those to test with."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  the tests of the benchmark do without

    found = load_digits()
    small = torch.tensor(found.images, dtype=torch.float32)[:, None]
    images = F.interpolate(small, (SIZE, SIZE), mode="bilinear", align_corners=False)
    images = (images - images[:TRAINING].mean()) / images[:TRAINING].std()
    whole = Labelled(images, torch.tensor(found.target))
    return _part(whole, slice(TRAINING)), _part(whole, slice(TRAINING, TRAINING + TESTS))


def _part(of: Labelled, numbers: slice) -> Labelled:
    return Labelled(of.images[numbers], of.labels[numbers])


def trained(name: str, samples: Labelled, cache: Path, epochs: int = EPOCHS) -> nn.Module:
    """A network with its trained weights, which stay in a file in `cache`."""
    torch.manual_seed(SEED)
    architecture, optimizer = TRAINED[name]
    network, file = NETWORKS[architecture](), cache / f"{name}.pt"
    if file.exists():
        network.load_state_dict(torch.load(file, weights_only=True))
        return network.eval()
    _train(network, optimizer(network.parameters()), samples, epochs)
    cache.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), file)
    return network


def _train(network: nn.Module, optimizer: Optimizer, samples: Labelled, epochs: int) -> None:
    # The rate falls to 0 along half a cosine.
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    network.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(samples.labels)).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(network(_shifted(samples.images[chosen])), samples.labels[chosen]).backward()
            optimizer.step()
        schedule.step()
    network.eval()


def _shifted(images: Tensor) -> Tensor:
    """Each image moved by some pixels; what comes in is the edge."""
    size = images.shape[-1]
    padded = F.pad(images, (SHIFT,) * 4, mode="replicate")
    offsets = torch.randint(2 * SHIFT + 1, (len(images), 2))
    return torch.stack(
        [one[:, row : row + size, column : column + size] for one, (row, column) in zip(padded, offsets, strict=True)]
    )
