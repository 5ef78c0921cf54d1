"""Reads the files that W&B writes offline: LevelDB's log format, in which records are protobufs."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK_BYTES = 32768
_FILE_HEADER_BYTES = 7
_HEADER = struct.Struct("<IHB")  # checksum, length, type
_LAST_TYPES = (1, 4)  # a whole record, or its last part


class OfflineRun:
    """What one offline folder says of its run."""

    def __init__(self, folder: Path) -> None:
        (file,) = folder.glob("*.wandb")
        records = list(_records(file.read_bytes()))
        (self.run,) = (record.run for record in records if record.HasField("run"))
        self.config = {item.key: json.loads(item.value_json) for item in self.run.config.update}
        self.rows = [_row(record.history) for record in records if record.HasField("history")]
        self.exit_codes = [record.exit.exit_code for record in records if record.HasField("exit")]

    def has(self, tag: str) -> bool:
        """Tell whether something was logged under this tag, or below it."""
        return any(key.startswith(tag) for row in self.rows for key in row)

    def curve(self, tag: str) -> list[tuple[int, float]]:
        """Return steps and values of a metric."""
        return [(row["_step"], row[tag]) for row in self.rows if tag in row]


def _row(history: Any) -> dict[str, Any]:
    return {
        item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in history.item
    }


def _records(data: bytes) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2

    place, record = _FILE_HEADER_BYTES, b""
    while place + _HEADER.size <= len(data):
        left = _BLOCK_BYTES - place % _BLOCK_BYTES
        if left < _HEADER.size:  # the rest of a block is empty
            place += left
            continue
        _, length, kind = _HEADER.unpack_from(data, place)
        place += _HEADER.size
        record += data[place : place + length]
        place += length
        if kind in _LAST_TYPES:
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""
