"""The options of a fold as query parameters: names, defaults and descriptions are those of `folding.Options`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from folding.errors import OptionError
from folding.options import LISTS, Clamps, InputTypes, Leftover, Options, Precision, option_fields
from folding.targets.model import NAMES
from service.problems import Problem

URL_LENGTH = 2048  # characters of a webhook's URL: clients, proxies and servers accept this length
NAME_BYTES = 120  # of a model's name: with the suffixes that folding adds it must fit into the 255 of a file system
PATTERNS = 1000  # the most in `keep`, and in `only`
PATTERN_LENGTH = 500  # characters of one pattern
FORBIDDEN_IN_NAMES = {"/", "\\", "\0"}
_PLAIN = r"[^/\\\x00-\x1f\x7f]"
FILE_NAME = f"^{_PLAIN}*{_PLAIN[:-1]} .]{_PLAIN}*$"  # what a JSON schema can express; `file_name` checks the rest
DECLARED = option_fields()


def _option(name: str, **bounds: Any) -> Any:
    default = DECLARED[name]["default"]
    return Field(list(default) if isinstance(default, tuple) else default, description=DECLARED[name]["help"], **bounds)


Frozen = Literal["no", "stored"]  # samples, from which statistics could come, are on the caller's machine

Target = Annotated[str, Field(json_schema_extra={"enum": list(NAMES)})]
# As plain names go; the library checks it, and takes the name of the file in braces, too
RepositoryName = Annotated[str, Field(json_schema_extra={"pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$"})]
NONE = BeforeValidator(lambda value: None if value == "null" else value)  # how a query or a form writes no value
Pattern = Annotated[str, Field(max_length=PATTERN_LENGTH)]


class FoldQuery(BaseModel):
    """The query parameters of a fold. `inputs` names a file on the caller's machine and has no parameter."""

    model_config = ConfigDict(extra="forbid")

    target: Annotated[Target | None, NONE] = _option("target")
    allow_fallback: bool = _option("allow_fallback")
    clean: bool = _option("clean")
    fuse: bool = _option("fuse")
    fold_norms: bool = _option("fold_norms")
    equalize: bool = _option("equalize")
    opset: Annotated[int | None, NONE] = _option("opset", gt=0)
    shape: list[Pattern] = _option("shape", max_length=PATTERNS)
    batch: Annotated[int | None, NONE] = _option("batch", gt=0)
    name_axes: bool = _option("name_axes")
    precision: Precision = _option("precision")
    io_types: InputTypes = _option("io_types")
    keep_fp32: list[Pattern] = _option("keep_fp32", max_length=PATTERNS)
    max_error: Annotated[float | None, NONE] = _option("max_error", gt=0, allow_inf_nan=False)
    keep: list[Pattern] = _option("keep", max_length=PATTERNS)
    only: list[Pattern] = _option("only", max_length=PATTERNS)
    freeze_initializers: bool = _option("freeze_initializers")
    freeze_training: Frozen | bool = _option("freeze_training")
    leftover: Leftover = _option("leftover")
    clamp: Clamps = _option("clamp")
    merge_branches: bool = _option("merge_branches")
    verify: bool = _option("verify")
    verify_timeout: float = _option("verify_timeout", gt=0, allow_inf_nan=False)
    strict: bool = _option("strict")
    require_change: bool = _option("require_change")
    card: bool = _option("card")
    digest: bool = _option("digest")
    triton: Annotated[RepositoryName | None, NONE] = _option("triton")
    name: str = Field(
        "model.onnx",
        description=f"the file name of the model, as reports and downloads show it; at most {NAME_BYTES} bytes",
        json_schema_extra={"pattern": FILE_NAME, "minLength": 1, "maxLength": NAME_BYTES},
        examples=["resnet.onnx"],
    )

    def options(self, longest_verification: float) -> Options:
        """The options in the form of the library.

        Raises:
            Problem: invalid-option; the detail says what is allowed.
        """
        chosen = self.model_dump(include=set(DECLARED))
        if "verify_timeout" not in self.model_fields_set:
            chosen["verify_timeout"] = min(self.verify_timeout, longest_verification)
        elif self.verify_timeout > longest_verification:
            detail = f"verify_timeout is {self.verify_timeout:g}; this server gives {longest_verification:g} s at most"
            raise Problem("invalid-option", detail)
        try:
            return Options(**chosen)
        except OptionError as error:
            raise Problem("invalid-option", str(error)) from error

    def file_name(self) -> str:
        """The name of the model as one plain file name.

        Raises:
            Problem: invalid-option: it is a path, too long, or has characters that file names cannot have.
        """
        if (
            not self.name.isprintable()
            or FORBIDDEN_IN_NAMES & set(self.name)
            or not self.name.strip(" .")
            or len(self.name.encode()) > NAME_BYTES
        ):
            raise Problem("invalid-option", f"name must be a plain file name of at most {NAME_BYTES} bytes")
        return self.name


class WebhookQuery(FoldQuery):
    """The parameters of a fold with a webhook. The webhook is not part of the job's identity."""

    webhook: str | None = Field(
        None,
        max_length=URL_LENGTH,
        description="the https:// or http:// URL that a signed event is POSTed to when the job ends, on the public "
        "internet; see `job_ended` under webhooks",
        examples=["https://hooks.example.com/folded"],
    )


def canonical(options: Options) -> str:
    """The options as canonical JSON, for hashing: options with the same meaning have the same text."""
    plain = asdict(options)
    del plain["inputs"]
    for name in LISTS:
        plain[name] = sorted(set(plain[name]))
    plain["verify_timeout"] = float(plain["verify_timeout"])
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def from_canonical(text: str) -> Options:
    """The options from the text that `canonical` returned."""
    return Options(**json.loads(text))
