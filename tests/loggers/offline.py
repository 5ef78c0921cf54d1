"""Reading of W&B's offline files: LevelDB's log format with protobuf records."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK_BYTES = 32768
_FILE_HEADER_BYTES = 7
_HEADER = struct.Struct("<IHB")  # checksum, length, type
_LAST_TYPES = (1, 4)  # a complete record, or its last part


class OfflineRun:
    """Contents of an offline folder."""

    def __init__(self, folder: Path) -> None:
        (file,) = folder.glob("*.wandb")
        records = list(_records(file.read_bytes()))
        (self.run,) = (record.run for record in records if record.HasField("run"))
        self.config = {item.key: json.loads(item.value_json) for item in self.run.config.update}
        self.rows = [_row(record.history) for record in records if record.HasField("history")]
        self.exit_codes = [record.exit.exit_code for record in records if record.HasField("exit")]

    def has(self, tag: str) -> bool:
        """Return whether anything was logged with this tag or a tag below it."""
        return any(key.startswith(tag) for row in self.rows for key in row)

    def curve(self, tag: str) -> list[tuple[int, float]]:
        """Return the steps and values of a metric."""
        return [(row["_step"], row[tag]) for row in self.rows if tag in row]


def _row(history: Any) -> dict[str, Any]:
    return {
        item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in history.item
    }


def _records(data: bytes) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2

    offset, record = _FILE_HEADER_BYTES, b""
    while offset + _HEADER.size <= len(data):
        remaining = _BLOCK_BYTES - offset % _BLOCK_BYTES
        if remaining < _HEADER.size:  # padding at the end of a block
            offset += remaining
            continue
        _, length, kind = _HEADER.unpack_from(data, offset)
        offset += _HEADER.size
        record += data[offset : offset + length]
        offset += length
        if kind in _LAST_TYPES:
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""
