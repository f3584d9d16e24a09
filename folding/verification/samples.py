"""Samples for running a model: shapes for its open dimensions, generated values, or arrays from an .npz file."""

from __future__ import annotations

import itertools
import math
import zipfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from folding.errors import OptionError
from folding.verification import advice
from folding.verification.judge import Array, is_float

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

Dimension = int | str | None
Key = str | tuple[str, int]  # identifies an open dimension: its symbol, or its input and axis
Feeds = dict[str, Array]

SEED = 20150211  # fixed, so that a verdict can be repeated; any number works
SAMPLES = 3  # two normal, one uniform; more samples found no further error
UNIFORM_SAMPLE = 2  # its values are in [0, 1), like those of images
AMPLITUDES = (0.1, 10.0, 0.01, 100.0)  # of further samples, where an output does not depend on the first ones
LARGER = 1.25  # the factor of overridden numbers
OVERRIDES = 32  # lengths to try, one at a time: a shape has a few
INPUT_BYTES = 1 << 30  # of one sample; ten times a batch of 32 images of 224 x 224 in float64
NAMED_FLOATS = {"bfloat16": np.dtype(ml_dtypes.bfloat16)}
# ONNX Runtime's names of element types where they are not NumPy's
ELEMENT_TYPES = {"float": "float32", "double": "float64", "string": "object"}
NUMPY_TYPES = frozenset({"float16", "bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))})

# Sizes to try for open dimensions, (height and width, length of a sequence): small ones first, as they cost little.
# 64 survives five halvings; classifiers with a fixed head need 224, text recognisers 48 and 320, detectors 640.
SIZES = ((64, 16), (32, 8), (224, 32), (48, 64), (320, 128), (256, 256), (640, 512), (16, 1))
CHANNELS = (3, 1)
BATCHES = (2, 1)  # 2 shows an error that a batch of 1 hides: a map that varies along the wrong axis
IMAGE_RANK = 4
# Exclusive upper bounds for integer inputs, which may be indices into a small table, class numbers or flags.
BOUNDS = (10, 2, 1)
# What says that integers are flags: a language model with an attention mask of 9 adds 8e9 to its scores.
MASK = "mask"
BYTE_TYPES = ("uint8", "int8")  # images and quantized values: the first try uses their whole range


class UnverifiableError(Exception):
    """No verdict is possible; the text states why, as a clause after "not verified, because"."""


@dataclass(frozen=True)
class Spec:
    """What the model requires of one input; a dimension is a size, a symbol or unknown (None)."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[Dimension, ...]

    @classmethod
    def of(cls, name: str, kind: str, shape: Iterable[Dimension]) -> Spec:
        """Build the spec of an input that ONNX Runtime describes as `kind`, for example "tensor(float)".

        Raises:
            UnverifiableError: it is no tensor, or its type does not exist in NumPy.
        """
        element = kind.removeprefix("tensor(").removesuffix(")")
        element = ELEMENT_TYPES.get(element, element)
        if element in NAMED_FLOATS:
            dtype = NAMED_FLOATS[element]
        elif element in NUMPY_TYPES or element in ELEMENT_TYPES.values():
            dtype = np.dtype(element)
        else:
            raise UnverifiableError(f'input "{name}" is a {kind}, for which no samples can be made; {advice.RUNTIME}')
        return cls(name, dtype, tuple(d if isinstance(d, int) and d >= 0 else _symbol(d) for d in shape))

    @property
    def open(self) -> Iterator[tuple[int, Key]]:
        """The axes without a size, each with the key of its size."""
        for axis, dimension in enumerate(self.shape):
            if not isinstance(dimension, int):
                yield axis, dimension or (self.name, axis)

    def sized(self, sizes: Mapping[Key, int]) -> tuple[int, ...]:
        """The shape with a size for every open dimension."""
        keys = dict(self.open)
        return tuple(d if isinstance(d, int) else sizes[keys[axis]] for axis, d in enumerate(self.shape))

    def __str__(self) -> str:
        return f"{type_name(self.dtype)} {shown('?' if d is None else d for d in self.shape)}"


def with_lengths(specs: Iterable[Spec], lengths: Mapping[tuple[str, int], int]) -> list[Spec]:
    """The specs with these lengths of open dimensions, by input and axis; a symbol means the same in all inputs."""
    specs = list(specs)
    sizes: dict[Key, int] = {}
    for spec in specs:
        sizes.update({key: lengths[spec.name, axis] for axis, key in spec.open if (spec.name, axis) in lengths})
    return [
        replace(spec, shape=tuple(sizes.get(keys.get(axis, ""), d) for axis, d in enumerate(spec.shape)))
        for spec in specs
        for keys in [dict(spec.open)]
    ]


def with_types(specs: Iterable[Spec], halves: Mapping[str, str]) -> list[Spec]:
    """The specs of an emulation with the types of the model itself, where these have 16 bits."""
    types = {name: NAMED_FLOATS.get(kind) or np.dtype(kind) for name, kind in halves.items()}
    return [replace(spec, dtype=types.get(spec.name, spec.dtype)) for spec in specs]


def _symbol(dimension: Dimension) -> str | None:
    """The symbol of a dimension; "?", "-1" and "" are no symbols: exporters write them for any unknown size."""
    return dimension if isinstance(dimension, str) and dimension.strip("?-1 ") else None


def type_name(dtype: np.dtype[Any]) -> str:
    """The name of an element type; object arrays hold strings here."""
    return "string" if dtype.hasobject else dtype.name


def shown(shape: Iterable[Dimension]) -> str:
    """A shape in the usual notation: 1x3x224x224."""
    return "x".join(map(str, shape)) or "scalar"


@dataclass(frozen=True)
class Guess:
    """Sizes for the open dimensions, and the bound of integer inputs."""

    sizes: Mapping[Key, int]
    bound: int


def guesses(specs: Iterable[Spec]) -> Iterator[Guess]:
    """The guesses to try in turn until the model runs; equal symbols have equal sizes."""
    specs = tuple(specs)
    roles = _roles(specs)
    held = set(roles.values())
    integers = any(np.issubdtype(spec.dtype, np.integer) for spec in specs)
    for (extent, length), channels, batch, bound in itertools.product(
        SIZES if held & {"extent", "length"} else SIZES[:1],
        CHANNELS if "channels" in held else CHANNELS[:1],
        BATCHES if "batch" in held else BATCHES[:1],
        BOUNDS if integers else BOUNDS[:1],
    ):
        size = {"extent": extent, "length": length, "channels": channels, "batch": batch}
        yield Guess({key: size[role] for key, role in roles.items()}, bound)


def _roles(specs: Iterable[Spec]) -> dict[Key, str]:
    roles: dict[Key, str] = {}
    for spec in specs:
        keys = dict(spec.open)
        for axis, key in keys.items():
            if axis == 0 or "batch" in str(key).lower():
                role = "batch"
            elif len(spec.shape) < IMAGE_RANK:
                role = "length"
            else:  # (N, C, H, W): the channel is open too only if it cannot be distinguished from H and W
                role = "channels" if axis == 1 and max(keys) == len(spec.shape) - 1 else "extent"
            roles.setdefault(key, role)
    return roles


def generate(specs: Iterable[Spec], guess: Guess, number: int, amplitude: float = 1.0) -> Feeds:
    """Sample `number` of a model: the same values for the same arguments. `amplitude` multiplies floating-point ones.

    Raises:
        UnverifiableError: the sample would be larger than INPUT_BYTES; nothing was allocated.
    """
    specs = tuple(specs)
    rng = np.random.default_rng((SEED, number))
    shapes = {spec.name: spec.sized(guess.sizes) for spec in specs}
    total = sum(spec.dtype.itemsize * math.prod(shapes[spec.name]) for spec in specs)
    if total > INPUT_BYTES:
        wanted = ", ".join(f"{spec.name} {shown(shapes[spec.name])}" for spec in specs)
        raise UnverifiableError(f"one sample of the inputs ({wanted}) takes {total:,} bytes, more than {INPUT_BYTES:,}")
    feeds = {spec.name: np.asarray(_values(spec, shapes[spec.name], guess, number, rng)) for spec in specs}
    if amplitude == 1:
        return feeds
    return {name: np.asarray(v * amplitude, v.dtype) if is_float(v) else v for name, v in feeds.items()}


def _values(spec: Spec, shape: tuple[int, ...], guess: Guess, number: int, rng: np.random.Generator) -> Array:
    if spec.dtype == object:
        return np.full(shape, chr(ord("a") + number), object)
    if spec.dtype == np.bool_:  # a single one selects a branch: every second sample selects the other
        return np.full(shape, number % 2 == 0) if math.prod(shape) == 1 else rng.integers(0, 2, shape).astype(np.bool_)
    if np.issubdtype(spec.dtype, np.integer):
        if MASK in spec.name.lower() and spec.dtype.name not in BYTE_TYPES and shape and guess.bound > 1:
            return _padding(shape, rng).astype(spec.dtype)
        limits = np.iinfo(spec.dtype)
        whole = spec.dtype.name in BYTE_TYPES and guess.bound == BOUNDS[0]
        return rng.integers(*((limits.min, limits.max + 1) if whole else (0, guess.bound)), shape).astype(spec.dtype)
    values = rng.random(shape) if number == UNIFORM_SAMPLE else rng.standard_normal(shape)
    return np.asarray(values, spec.dtype)


def _padding(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """A mask of sequences that end somewhere: at least one 1 along the last axis, then 0."""
    lengths = rng.integers(1, max(shape[-1], 1), (*shape[:-1], 1), endpoint=True)
    return np.arange(shape[-1]) < lengths


def overrides(defaults: Mapping[str, Array]) -> Iterator[Feeds]:
    """Other values for the initializers that a caller may override, to try in turn until the model runs on some.

    Lengths are read the other way round, or one of them becomes longer by one; numbers become larger.
    """
    numbers = {name: np.asarray(values * LARGER, values.dtype) for name, values in defaults.items() if is_float(values)}
    whole = {name: values for name, values in defaults.items() if not is_float(values)}
    flipped = {name: np.flip(values) for name, values in whole.items()}
    if any((flipped[name] != values).any() for name, values in whole.items()):
        yield numbers | flipped
    places = ((name, place) for name, values in whole.items() for place in np.ndindex(values.shape))
    for name, place in itertools.islice(places, OVERRIDES):
        longer = whole[name].copy()
        longer[place] += 1
        yield numbers | whole | {name: longer}
    if numbers:
        yield numbers


def rounded(feeds: Feeds, relative: float, drift: float, number: int = 0) -> Feeds:
    """The same sample with each floating-point value changed by up to the fraction `relative` of itself.

    `drift` 0 moves each value independently, up or down; 1 moves all values up, which affects sums most.
    Another `number` moves other values up.
    """
    rng = np.random.default_rng(SEED + number)

    def moved(values: Array) -> Array:
        sizes = relative * (drift + (1 - drift) * rng.choice((-1.0, 1.0), values.shape))
        return np.asarray(values.astype(np.float64) * (1 + sizes)).astype(values.dtype)

    with np.errstate(over="ignore", invalid="ignore"):
        return {name: moved(values) if is_float(values) else values for name, values in feeds.items()}


def read(path: Path, specs: Iterable[Spec], label: str) -> Feeds:
    """The first batch of an .npz file; as `batches`."""
    return next(batches(path, specs, label))


def batches(path: Path, specs: Iterable[Spec], label: str) -> Iterator[Feeds]:
    """The batches of an .npz file with one array per input; `label` is the user's name for the file.

    An array is one batch, or, where the model fixes the length of the first axis, several of that length in a row.

    Raises:
        OptionError: it is not an .npz file, or its arrays do not fit the model's inputs.
        UnverifiableError: it holds more than INPUT_BYTES.
    """
    wanted = {spec.name: spec for spec in specs}
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(member.file_size for member in archive.infolist())
        if total > INPUT_BYTES:
            raise UnverifiableError(
                f"{label} holds {total:,} bytes of samples, more than {INPUT_BYTES:,}; {advice.SMALLER}"
            )
        feeds = load(path)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise OptionError(
            f"{label} cannot be read as an .npz file of plain arrays ({error}); save it with numpy.savez"
        ) from None
    names = f"the model's inputs are {', '.join(wanted) or 'none'}"
    if surplus := sorted(feeds.keys() - wanted.keys()):
        raise OptionError(f"{label} has {', '.join(surplus)}, but {names}; leave out what the model does not have")
    if missing := sorted(wanted.keys() - feeds.keys()):
        raise OptionError(f"{label} lacks {', '.join(missing)}; {names}: add one array for each")
    count = _batches(wanted.values(), feeds)
    for number in range(count):
        known: dict[Key, int] = {}
        parts = {name: _part(values, number, count) for name, values in feeds.items()}
        yield {name: _fitted(spec, parts[name], known, label) for name, spec in wanted.items()}


def _batches(specs: Iterable[Spec], feeds: Feeds) -> int:
    """How many batches the arrays hold: as many in each, if the model fixes the first lengths."""
    counts = set()
    for spec in specs:
        length = spec.shape[0] if spec.shape else None
        total = feeds[spec.name].shape[0] if feeds[spec.name].ndim == len(spec.shape) > 0 else 0
        if isinstance(length, int) and length > 0 and total > 0 and total % length == 0:
            counts.add(total // length)
        else:
            counts.add(1)
    return counts.pop() if len(counts) == 1 else 1


def _part(values: Array, number: int, count: int) -> Array:
    """One of so many equal batches."""
    if count == 1:
        return values
    length = values.shape[0] // count
    return values[number * length : (number + 1) * length]


def load(path: Path) -> Feeds:
    """The arrays of an .npz file; raises whatever NumPy raises."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _fitted(spec: Spec, values: Array, known: dict[Key, int], label: str) -> Array:
    """The array in the input's type; `known` collects the sizes of the symbols seen so far."""
    if spec.dtype == object and values.dtype.kind in "US":
        values = values.astype(np.str_).astype(object)
    elif spec.dtype.name in NAMED_FLOATS and values.dtype == np.dtype(f"V{spec.dtype.itemsize}"):
        values = values.view(spec.dtype)  # NumPy stores unknown types as bytes
    sizes = {key: known.setdefault(key, size) for key, size in _open_sizes(spec, values)}
    if values.dtype != spec.dtype or values.ndim != len(spec.shape) or values.shape != spec.sized(sizes):
        chosen = ", ".join(f"{key} is {size}" for key, size in sizes.items() if isinstance(key, str))
        raise OptionError(
            f'input "{spec.name}" wants {spec}{f" ({chosen})" if chosen else ""}, '
            f"but {label} has {type_name(values.dtype)} {shown(values.shape)}; save the array in that type and shape"
        )
    return values


def _open_sizes(spec: Spec, values: Array) -> Iterator[tuple[Key, int]]:
    return ((key, values.shape[axis]) for axis, key in spec.open if axis < values.ndim)


def describe(source: str, feeds: Feeds, *, generated: bool) -> str:
    """The origin and the form of a sample: "generated: input float32 1x3x240x320"."""
    parts = [f"{name} {_described(values, generated=generated)}" for name, values in feeds.items()]
    return f"{source}: {', '.join(parts)}" if parts else "none: the model has no inputs"


def _described(values: Array, *, generated: bool) -> str:
    bounds = ""
    if generated and np.issubdtype(values.dtype, np.integer) and values.size:
        bounds = f" ({values.min()} to {values.max()})"
    return f"{type_name(values.dtype)} {shown(values.shape)}{bounds}"
