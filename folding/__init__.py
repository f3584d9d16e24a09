"""bnfold: fold BatchNormalization and other affine maps of an ONNX model into the constants of their neighbours."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # what type checkers take for true; typing is imported only after Ctrl-C ends a command quietly
if TYPE_CHECKING:
    from folding.api import fold, fold_model, inspect
    from folding.errors import ExportError, FoldingError, LimitError, ModelError, OptionError
    from folding.onnxfile import Limits
    from folding.options import Options
    from folding.report.changes import Change
    from folding.report.errors import NothingToFoldError, TargetError, VerificationError
    from folding.report.findings import Finding
    from folding.report.model import Leftover, Offer, Outcome, Refusal, Report, Verification
    from folding.torch.convert import from_torch
    from folding.torch.fold import fold_module, inspect_module
    from folding.verification.parent import verify

    __version__: str

# Where each public name lives. Loaded on first use: `bnfold --help` must not pay for onnx.
_HOMES = {
    "fold": "api", "fold_model": "api", "inspect": "api",
    "from_torch": "torch.convert", "fold_module": "torch.fold", "inspect_module": "torch.fold",
    "verify": "verification.parent",
    "Options": "options", "Limits": "onnxfile",
    "Leftover": "report.model", "Offer": "report.model",
    "Outcome": "report.model", "Refusal": "report.model", "Report": "report.model", "Verification": "report.model",
    "ExportError": "errors",
    "FoldingError": "errors", "LimitError": "errors", "ModelError": "errors", "OptionError": "errors",
    "Change": "report.changes", "Finding": "report.findings",
    "NothingToFoldError": "report.errors", "TargetError": "report.errors", "VerificationError": "report.errors",
}  # fmt: skip

__all__ = [
    "Change",
    "ExportError",
    "Finding",
    "FoldingError",
    "Leftover",
    "LimitError",
    "Limits",
    "ModelError",
    "NothingToFoldError",
    "Offer",
    "OptionError",
    "Options",
    "Outcome",
    "Refusal",
    "Report",
    "TargetError",
    "Verification",
    "VerificationError",
    "fold",
    "fold_model",
    "fold_module",
    "from_torch",
    "inspect",
    "inspect_module",
    "verify",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("folding.version").VERSION
    if name not in _HOMES:
        raise AttributeError(f"module 'folding' has no attribute {name!r}")
    return getattr(import_module(f"folding.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
