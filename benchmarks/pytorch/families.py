"""``python -m benchmarks.torchmodules``: `from_torch` and `fold_module` on networks, and against PyTorch's own fusers.

Two tables, written to `results/torchmodules.md`: families of networks with the normalizations before and after, whether
every normalization is reported under its module's name, and the error against PyTorch in float64; and small patterns,
with what each fuser of PyTorch makes of them. timm and pytorchcv are needed for most families (`make survey` installs
them); what is not installed is left out.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

import folding
from benchmarks.architectures.export import AbsentPackage, build, normalizations, train
from benchmarks.architectures.families import FAMILIES
from benchmarks.pytorch.fusers import FUSERS, verdict
from benchmarks.pytorch.patterns import CASES, SEED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from folding import Report

RESULTS = Path(__file__).parent / "results" / "torchmodules.md"
CHOSEN = {  # a family, and the network of it; small ones, since only the graph matters
    "ResNet": "resnet18", "VGG": "vgg11_bn", "MobileNet": "mobilenetv2_050", "EfficientNet": "efficientnet_b0",
    "RegNet": "regnety_002", "GhostNet": "ghostnet_050", "DenseNet": "densenet40_k12", "PreResNet": "preresnet20",
    "RepVGG": "repvgg_a0", "MobileOne": "mobileone_s0", "RepViT": "repvit_m0_9", "ConvMixer": "convmixer_256_8",
    "SENet": "legacy_seresnet18", "SKNet": "skresnet18", "DLA": "dla46_c", "StarNet": "starnet_s1",
    "ReXNet": "rexnet_100", "HGNet": "hgnetv2_b0", "U-Net": "unet", "DCGAN": "dcgan_generator", "PointNet": "pointnet",
    "M5": "m5", "QuartzNet": "quartznet", "DeepSpeech 2": "deepspeech2", "ST-GCN": "stgcn", "MLP": "mlp",
}  # fmt: skip
HEADER = (
    "| family | network | normalizations | dynamo | torchscript | fold_module | names "
    "| errors of the three, relative to the output (share of what is tolerated) |\n"
    "| --- | --- | ---: | ---: | ---: | ---: | --- | --- |"
)


def networks() -> Iterator[tuple[str, str, torch.nn.Module, torch.Tensor]]:
    """Every chosen network that is installed, with statistics, and an example input of two samples."""
    for family, name in CHOSEN.items():
        network = FAMILIES[family][name]
        if network.package and find_spec(network.package) is None:
            continue
        module = build(network.make, dict(network.arguments))
        train(module, network.shape)
        yield family, name, module, torch.randn(2, *network.shape[1:])


def row(family: str, name: str, module: torch.nn.Module, x: torch.Tensor, folder: Path) -> str:
    """The line of one network."""
    names = [part for part, one in module.named_modules() if isinstance(one, torch.nn.modules.batchnorm._BatchNorm)]
    ways: dict[str, Callable[[], Report]] = {
        "dynamo": lambda: folding.from_torch(module, x, folder / "d.onnx", exporter="dynamo"),
        "torchscript": lambda: folding.from_torch(module, x, folder / "t.onnx", exporter="torchscript"),
        "fold_module": lambda: folding.fold_module(module, x).meta["bnfold"],
    }
    cells, errors, right = [], [], []
    for way, run in ways.items():
        report = _done(run)
        if isinstance(report, str):
            cells.append(report)
            continue
        cells.append(f"{report.bn_before} → {report.bn_after}")
        found = {one.module for one in report.outcomes if one.operator == "BatchNormalization"}
        right.append("all" if found == set(names) else f"{way}: {len(found & set(names))} of {len(names)}")
        errors.append(_error(report))
    told = "all" if set(right) == {"all"} else "; ".join(one for one in right if one != "all")
    return f"| {family} | {name} | {len(normalizations(module))} | {' | '.join(cells)} | {told} | {', '.join(errors)} |"


def _done(run: Callable[[], Report]) -> Report | str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run()
    except folding.FoldingError as error:
        return f"{type(error).__name__}: {str(error)[:80]}"


def _error(report: Report) -> str:
    """The largest error against PyTorch in float64, relative to the output, and its share of the tolerated one."""
    if report.verification.status != "verified":
        return report.verification.status
    worst = max(report.verification.outputs, key=lambda one: one.max_absolute / (one.tolerance or 1))
    return f"{worst.max_relative:.0e} ({worst.max_absolute / worst.tolerance:.0%})"


def patterns() -> Iterator[str]:
    """The table of patterns."""
    yield f"| pattern | {' | '.join(FUSERS)} |"
    yield "| --- |" + " --- |" * len(FUSERS)
    for name, case in CASES.items():
        torch.manual_seed(SEED)
        module, x = case.make(), torch.randn(case.shape)
        cells = [verdict(fuser, module, x) for fuser in FUSERS.values()]
        yield f"| {name} | {' | '.join(cells)} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Print both tables and write them; return 1 if a result of ours is wrong."""
    parser = argparse.ArgumentParser("python -m benchmarks.torchmodules", description=__doc__, allow_abbrev=False)
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the tables go (default: results)")
    parser.add_argument("--only", choices=("families", "patterns"), help="one of the tables")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    sys.meta_path.append(AbsentPackage())  # type: ignore[arg-type]
    lines = [f"PyTorch {torch.__version__}, bnfold {folding.__version__}", ""]
    if given.only != "patterns":
        lines += ["## Families, before → after", "", *_shown(HEADER.splitlines()), *_shown(_families()), ""]
    if given.only != "families":
        lines += ["## Patterns, against the fusers of PyTorch", "", *_shown(patterns()), ""]
    given.output.write_text("\n".join(lines))
    return int(any("WRONG" in line.split("|")[2] for line in lines if line.count("|") > 2))


def _families() -> Iterator[str]:
    with TemporaryDirectory() as folder:
        for family, name, module, x in networks():
            yield row(family, name, module, x, Path(folder))


def _shown(lines: Any) -> list[str]:
    found = []
    for line in lines:
        print(line, flush=True)
        found.append(line)
    return found


if __name__ == "__main__":
    sys.exit(main())
