"""The options of the library as options of the command: one declaration for both."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from folding.options import Options, option_fields

if TYPE_CHECKING:
    from collections.abc import Iterable


def add_options(group: argparse._ActionsContainer, names: Iterable[str]) -> None:
    """Give a command the options of these names, with the help and the form that `Options` declares."""
    declared, types = option_fields(), get_type_hints(Options)
    for name in names:
        given = argparse.SUPPRESS  # what is not given is left to Options, the one place for defaults
        flag, form = f"--{name.replace('_', '-')}", _form(types[name], declared[name]["default"])
        if "metavar" in declared[name]:
            form["metavar"] = declared[name]["metavar"]
        group.add_argument(flag, dest=name, default=given, help=_help(declared[name]), **form)


def _form(kind: object, default: Any) -> dict[str, Any]:
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction if default else "store_true"}
    if get_origin(kind) is tuple:
        return {"action": "append", "type": get_args(kind)[0]}
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    return {"type": next((part for part in get_args(kind) if part is not type(None)), kind)}


def _help(declared: dict[str, Any]) -> str:
    text, default = declared["help"], declared["default"]
    shown = "yes" if default is True else f"{default:g}" if isinstance(default, float) else default
    told = f"{text} (default: {shown})" if shown else f"{text}"
    return told.replace("%", "%%")  # argparse formats it


def chosen_options(arguments: argparse.Namespace) -> Options:
    """The options as given on the command line; the rest has its defaults."""
    given = vars(arguments)
    return Options(**{name: given[name] for name in option_fields() if name in given})
