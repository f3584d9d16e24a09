"""``python -m benchmarks.pytorch.families``: `from_torch` by both exporters, and `fold_module`, on families.

A line for each way of each network in `results/torch-families.md`: the normalizations before and after, which modules
the ones that stay are, and the error against PyTorch in float64. The exit code is 1 if one fails or differs. timm and
pytorchcv are needed for most families (`make survey` installs them); what is not installed is left out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import torch

import folding
from benchmarks.architectures.export import AbsentPackage, build, train
from benchmarks.architectures.families import FAMILIES
from benchmarks.pytorch.versions import measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from folding import Report

RESULTS = Path(__file__).parent.parent / "results" / "torch-families.md"
ROWS = Path(".cache", "torch-families.jsonl")
NAMES_SHOWN = 2
CHOSEN = {  # a family, and the network of it; small ones, since only the graph matters
    "ResNet": "resnet18", "VGG": "vgg11_bn", "MobileNet": "mobilenetv2_050", "EfficientNet": "efficientnet_b0",
    "RegNet": "regnety_002", "GhostNet": "ghostnet_050", "DenseNet": "densenet40_k12", "PreResNet": "preresnet20",
    "RepVGG": "repvgg_a0", "MobileOne": "mobileone_s0", "RepViT": "repvit_m0_9", "ConvMixer": "convmixer_256_8",
    "SENet": "seresnet18", "SKNet": "skresnet18", "DLA": "dla46_c", "StarNet": "starnet_s1",
    "ReXNet": "rexnet_100", "HGNet": "hgnetv2_b0", "U-Net": "unet", "DCGAN": "dcgan_generator", "PointNet": "pointnet",
    "M5": "m5", "QuartzNet": "quartznet", "DeepSpeech 2": "deepspeech2", "ST-GCN": "stgcn", "MLP": "mlp",
}  # fmt: skip


class Row(NamedTuple):
    """What one way made of a network; `stays` names the modules, `error` is relative to the output."""

    family: str
    network: str
    way: str
    before: int
    left: int
    named: int  # normalizations of the module that the report names
    modules: int  # and all of them
    stays: list[str]
    status: str
    error: float
    share: float  # of what is tolerated

    @property
    def is_right(self) -> bool:
        """Whether it ran, agrees with PyTorch and names every normalization."""
        return self.status == "verified" and self.named == self.modules


WAYS: dict[str, Callable[[torch.nn.Module, torch.Tensor, Path], Report]] = {
    "ONNX, dynamo": lambda module, x, path: folding.from_torch(module, x, path, exporter="dynamo"),
    "ONNX, TorchScript": lambda module, x, path: folding.from_torch(module, x, path, exporter="torchscript"),
    "`fold_module`": lambda module, x, _: folding.fold_module(module, x).meta["bnfold"],
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what has no row yet, and write the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.pytorch.families", description=__doc__, allow_abbrev=False)
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the table goes (default: results)")
    parser.add_argument("--rows", type=Path, default=ROWS, help="keeps rows of earlier runs")
    parser.add_argument("--family", default=",".join(CHOSEN), help="some of them: ResNet,VGG (default: all)")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    sys.meta_path.append(AbsentPackage())  # type: ignore[arg-type]
    families = given.family.split(",")
    known = {(row.network, row.way): row for row in _known(given.rows)}
    with given.rows.open("a") as rows, TemporaryDirectory() as folder:
        for family in families:
            for row in _measured(family, known, Path(folder, "network.onnx")):
                known[row.network, row.way] = row
                rows.write(json.dumps(row) + "\n")
                rows.flush()
    done = [known[CHOSEN[family], way] for family in families for way in WAYS if (CHOSEN[family], way) in known]
    given.output.write_text("\n".join(table(done)) + "\n")
    return int(not all(row.is_right for row in done))


def _known(path: Path) -> Iterator[Row]:
    if path.exists():
        for line in path.read_text().splitlines():
            yield Row(*json.loads(line))


def _measured(family: str, known: dict[tuple[str, str], Row], path: Path) -> Iterator[Row]:
    """The rows of one family that are not known, if its package is installed."""
    name = CHOSEN[family]
    network = FAMILIES[family][name]
    missing = [way for way in WAYS if (name, way) not in known]
    if not missing or (network.package and find_spec(network.package) is None):
        return
    module = build(network.make, dict(network.arguments))
    train(module, network.shape)
    x = torch.randn(2, *network.shape[1:])
    for way in missing:
        began = time.perf_counter()
        row = _row(family, name, way, module, x, path)
        print(row, f"{time.perf_counter() - began:.0f} s", flush=True)
        yield row


def _row(family: str, name: str, way: str, module: torch.nn.Module, x: torch.Tensor, path: Path) -> Row:
    """One way of one network."""
    names = {part for part, one in module.named_modules() if isinstance(one, torch.nn.modules.batchnorm._BatchNorm)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            report = WAYS[way](module, x, path)
    except folding.FoldingError as error:
        return Row(family, name, way, 0, 0, 0, len(names), [], f"{type(error).__name__}: {str(error)[:100]}", 0, 0)
    ours = [one for one in report.outcomes if one.operator == "BatchNormalization"]
    stays = sorted(one.module for one in ours if one.status == "kept")
    worst = max(report.verification.outputs, key=lambda one: one.max_absolute / (one.tolerance or 1))
    return Row(
        family,
        name,
        way,
        report.bn_before,
        report.bn_after,
        len(names & {one.module for one in ours}),
        len(names),
        stays,
        report.verification.status,
        worst.max_relative,
        worst.max_absolute / worst.tolerance,
    )


def table(rows: list[Row]) -> Iterator[str]:
    """A line for every way of every network."""
    networks = {row.network for row in rows}
    yield "# Families of networks, out of PyTorch"
    yield ""
    yield (
        f"{measured()} {len(networks)} networks in float32, with random weights and statistics as after a training; "
        "two images or sequences each, and two generated samples of the same shape. The error is the largest one "
        "against PyTorch in float64, relative to the output, in brackets as a share of what PyTorch's own rounding in "
        "float32 lets one expect. *named*: of how many of the module's normalizations the report says by name what "
        "happened to them."
    )
    yield ""
    yield "| family | network | way | BatchNormalizations | left | named | modules that stay | error |"
    yield "| --- | --- | --- | ---: | ---: | ---: | --- | --- |"
    for row in rows:
        more = f" and {len(row.stays) - NAMES_SHOWN} more" if len(row.stays) > NAMES_SHOWN else ""
        stays = ", ".join(f"`{name}`" for name in row.stays[:NAMES_SHOWN]) + more
        error = f"{row.error:.0e} ({row.share:.0%})" if row.status == "verified" else row.status
        counts = f"{row.before} | {row.left} | {row.named} of {row.modules}"
        yield f"| {row.family} | {row.network} | {row.way} | {counts} | {stays} | {error} |"
    yield ""
    for way in WAYS:
        of = [row for row in rows if row.way == way]
        right = sum(row.is_right for row in of)
        before, left = sum(row.before for row in of), sum(row.left for row in of)
        yield f"- {way}: {right} of {len(of)} networks verified with all names, {left:,} of {before:,} left"


if __name__ == "__main__":
    sys.exit(main())
