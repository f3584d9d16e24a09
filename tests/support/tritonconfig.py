"""config.pbtxt read by protobuf's own parser: a descriptor of those fields of Triton's ModelConfig that bnfold writes.

Names, numbers and types as in model_config.proto (triton-inference-server/common, package inference).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

if TYPE_CHECKING:
    from pathlib import Path

STRING, INT32, INT64, UINT32, BOOL, ENUM, MESSAGE = 9, 5, 3, 13, 8, 14, 11
TYPES = "INVALID BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 STRING BF16".split()  # noqa: SIM905
KINDS = "AUTO GPU CPU MODEL".split()  # noqa: SIM905
# By message: its fields, each with its number, its type (or that of a message or enum), and whether it is repeated
MESSAGES: dict[str, dict[str, tuple[int, int | str, bool]]] = {
    "Reshape": {"shape": (1, INT64, True)},
    "Input": {
        "name": (1, STRING, False),
        "data_type": (2, "DataType", False),
        "dims": (4, INT64, True),
        "reshape": (5, "Reshape", False),
    },
    "Output": {
        "name": (1, STRING, False),
        "data_type": (2, "DataType", False),
        "dims": (3, INT64, True),
        "reshape": (5, "Reshape", False),
    },
    "InstanceGroup": {"kind": (4, "Kind", False)},
    "DynamicBatching": {},
    "Parameter": {"key": (1, STRING, False), "value": (2, STRING, False)},
    "Accelerator": {"name": (1, STRING, False), "parameters": (2, "Parameter", True)},
    "Accelerators": {
        "gpu_execution_accelerator": (1, "Accelerator", True),
        "cpu_execution_accelerator": (2, "Accelerator", True),
    },
    "Optimization": {"execution_accelerators": (4, "Accelerators", False)},
    "WarmupValue": {
        "data_type": (1, "DataType", False),
        "dims": (2, INT64, True),
        "zero_data": (3, BOOL, False),
    },
    "WarmupInput": {"key": (1, STRING, False), "value": (2, "WarmupValue", False)},
    "Warmup": {"name": (1, STRING, False), "batch_size": (2, UINT32, False), "inputs": (3, "WarmupInput", True)},
    "ModelConfig": {
        "name": (1, STRING, False),
        "platform": (2, STRING, False),
        "max_batch_size": (4, INT32, False),
        "input": (5, "Input", True),
        "output": (6, "Output", True),
        "instance_group": (7, "InstanceGroup", True),
        "dynamic_batching": (11, "DynamicBatching", False),
        "optimization": (12, "Optimization", False),
        "model_warmup": (16, "Warmup", True),
        "backend": (17, STRING, False),
    },
}


def _described() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    for name, prefix, values in (("DataType", "TYPE_", TYPES), ("Kind", "KIND_", KINDS)):
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=f"{prefix}{value}", number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            one = message.field.add(name=field, number=number, label=3 if repeated else 1)
            if isinstance(kind, int):
                one.type = kind
            else:
                one.type = ENUM if kind in ("DataType", "Kind") else MESSAGE
                one.type_name = f".inference.{kind}"
    return file


def _model_config() -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_described())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


ModelConfig = _model_config()


def parsed(path: Path) -> Any:
    """The ModelConfig in a config.pbtxt; an unknown field or value is an error."""
    return text_format.Parse(path.read_text(encoding="ascii"), ModelConfig())


def kind_of(data_type: int) -> str:
    """The name of a data type: "FP32"."""
    return TYPES[data_type]
