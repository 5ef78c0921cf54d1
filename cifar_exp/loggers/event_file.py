"""One event file of TensorBoard's, written without a thread."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter


class EventFile:
    """Writes events, each of which is in the file when the call returns.

    PyTorch's SummaryWriter hands events to a thread, which on a full disk prints a traceback and
    tells of it one epoch late.

    Args:
        path: of the file; TensorBoard reads those with `tfevents` in their names.

    Raises:
        OSError: it cannot be written, now or later.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records = RecordWriter(path.open("xb"))
        try:
            self._write(file_version="brain.Event:2")
        except OSError:
            with suppress(OSError):  # of what is still in the buffer
                self._records.close()
            raise

    def __enter__(self) -> "EventFile":
        """Write in a block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        try:
            self._records.close()
        except OSError as error:
            error.filename = error.filename or str(self.path)
            raise

    def add(self, summary: Any, step: int = 0) -> None:
        """Add what one of TensorBoard's plugins has made."""
        self._write(step=step, summary=summary)

    def add_scalars(self, scalars: dict[str, float], step: int) -> None:
        """Add a point to curves. Args: scalars: by their tags."""
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self.add(Summary(value=values), step)

    def add_image(self, tag: str, png: bytes, step: int) -> None:
        """Add a picture. Args: png: the content of a PNG file."""
        # in the header of every PNG
        width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))
        image = Summary.Image(encoded_image_string=png, width=width, height=height, colorspace=4)
        self.add(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def add_text(self, tag: str, yaml: str, step: int = 0) -> None:
        """Add a text in YAML."""
        self.add(text_pb(tag, f"```yaml\n{yaml}```"), step)

    def hide_from(self, step: int) -> None:
        """Hide what earlier files of the run have from this step on."""
        self._write(step=step, session_log=SessionLog(status=SessionLog.START))

    def _write(self, **content: Any) -> None:
        try:
            self._records.write(Event(wall_time=time.time(), **content).SerializeToString())
            self._records.flush()
        except OSError as error:
            error.filename = error.filename or str(self.path)
            raise


def session_end(succeeded: bool) -> Summary:
    """Return what tells the HParams page how a run ended; summary_v2 has nothing for it."""
    status = api_pb2.STATUS_SUCCESS if succeeded else api_pb2.STATUS_FAILURE
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    content = plugin_data_pb2.HParamsPluginData(session_end_info=end)
    described = metadata.create_summary_metadata(content)
    tag = metadata.SESSION_END_INFO_TAG
    value = Summary.Value(tag=tag, metadata=described, tensor=metadata.NULL_TENSOR)
    return Summary(value=[value])
