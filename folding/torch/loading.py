"""What a command line names: a factory `package.module:name`, a file of weights, shapes and open axes."""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from folding.errors import OptionError
from folding.verification import samples

if TYPE_CHECKING:
    import os

SAFETENSORS = ".safetensors"
NESTED = ("state_dict", "model_state_dict", "model")  # where checkpoints of training keep the weights
KEYS_SHOWN = 3


def built(factory: str) -> tuple[torch.nn.Module, Any]:
    """The module that "package.module:name" gives (a function, a class or a module), and example inputs or None.

    The factory may return a pair, the module and its example inputs. The current folder is searched, too.

    Raises:
        OptionError: it cannot be imported or called, or gives no module.
    """
    place, _, name = factory.partition(":")
    if not place or not name:
        raise OptionError(f"{factory!r} names no factory; give package.module:name, e.g. my.networks:make_model")
    found = _imported(place, name)
    try:
        made = found() if callable(found) and not isinstance(found, torch.nn.Module) else found
    except Exception as error:
        raise OptionError(f"{factory}: the call fails: {type(error).__name__}: {error}") from error
    module, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, torch.nn.Module):
        raise OptionError(f"{factory} gives a {type(module).__name__}; it should give a torch.nn.Module")
    return module, inputs


def _imported(place: str, name: str) -> Any:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(place)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise OptionError(f"{place}:{name} cannot be imported: {error}") from error
    finally:
        sys.path.remove(here)
    return found


def load_weights(module: torch.nn.Module, path: str) -> None:
    """Load a file of weights into a module; every weight must be there. A pickle is read with `weights_only=True`.

    Raises:
        OptionError: the file cannot be read, or holds other weights.
    """
    if not Path(path).is_file():
        raise OptionError(f"weights: there is no file {path!r}")
    state = _safetensors(path) if path.endswith(SAFETENSORS) else _pickled(path)
    state = next((state[key] for key in NESTED if isinstance(state.get(key), dict)), state)
    try:
        known = module.load_state_dict(state, strict=False)
    except (RuntimeError, AttributeError) as error:
        raise OptionError(f"weights: {path} does not fit the module: {' '.join(str(error).split())}") from None
    for keys, what in ((known.missing_keys, "lacks"), (known.unexpected_keys, "has, and the module lacks,")):
        if keys:
            more = f" and {len(keys) - KEYS_SHOWN} more" if len(keys) > KEYS_SHOWN else ""
            raise OptionError(f"weights: {path} {what} {', '.join(keys[:KEYS_SHOWN])}{more}")


def _safetensors(path: str) -> dict[str, Any]:
    try:
        from safetensors import SafetensorError  # noqa: PLC0415  optional
        from safetensors.torch import load_file  # noqa: PLC0415
    except ModuleNotFoundError:
        raise OptionError(f"weights: {path} needs the package safetensors; pip install safetensors") from None
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise OptionError(f"weights: {path} cannot be read: {error}") from None


def _pickled(path: str) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise OptionError(
            f"weights: {path} holds more than weights (Python objects, which could run code); save "
            "module.state_dict() instead"
        ) from None
    except Exception as error:
        raise OptionError(f"weights: {path} cannot be read: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(state, dict):
        raise OptionError(f"weights: {path} holds a {type(state).__name__}; save module.state_dict() instead")
    return state


def inputs_of(path: str | os.PathLike[str] | None, shapes: list[str], own: Any) -> Any:
    """The example inputs: those of an .npz file, normal numbers of the given shapes ("1x3x224x224"), or the factory's.

    Raises:
        OptionError: there are none, or they cannot be read.
    """
    if path is not None:
        try:
            return {name: torch.as_tensor(values) for name, values in samples.load(Path(path)).items()}
        except (OSError, ValueError, EOFError, TypeError) as error:
            raise OptionError(f"inputs: {path} cannot be read as an .npz file of plain arrays: {error}") from None
    if shapes:
        return tuple(map(_drawn, range(len(shapes)), shapes))
    if own is None:
        raise OptionError("example inputs are needed: give --inputs FILE.npz or --example 1x3x224x224")
    return own


def _drawn(number: int, shape: str) -> torch.Tensor:
    try:
        sizes = tuple(map(int, shape.replace(",", "x").split("x")))
        return torch.as_tensor(np.random.default_rng((samples.SEED, number)).standard_normal(sizes, np.float32))
    except ValueError:
        raise OptionError(f"shape is {shape!r}; give sizes: 1x3x224x224") from None


def dynamic(given: list[str]) -> dict[str, dict[int, str]] | None:
    """Open axes: "x:0=batch" is axis 0 of the input x, called batch; None where none is given.

    Raises:
        OptionError: one is written otherwise.
    """
    found: dict[str, dict[int, str]] = {}
    for text in given:
        name, _, rest = text.partition(":")
        axis, _, symbol = rest.partition("=")
        if not name or not axis.isdecimal():
            raise OptionError(f"dynamic is {text!r}; give INPUT:AXIS or INPUT:AXIS=NAME, e.g. x:0=batch")
        found.setdefault(name, {})[int(axis)] = symbol or f"{name}_{axis}"
    return found or None
