"""TensorBoard event files, written without a thread."""

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
    """Writes events and flushes each of them.

    PyTorch's SummaryWriter writes in a thread, which prints a traceback on a full disk and raises
    the error one epoch late.

    Args:
        path: path of the new file. TensorBoard reads files with `tfevents` in their names.

    Raises:
        OSError: the file cannot be written; all methods may raise it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records = RecordWriter(path.open("xb"))
        try:
            self._write(file_version="brain.Event:2")
        except OSError:
            with suppress(OSError):  # closing flushes the buffer
                self._records.close()
            raise

    def __enter__(self) -> "EventFile":
        """Return the file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        try:
            self._records.close()
        except OSError as error:
            error.filename = error.filename or str(self.path)
            raise

    def add(self, summary: Any, step: int = 0) -> None:
        """Add a summary of a TensorBoard plugin.

        Args:
            summary: summary protobuf.
            step: step, at least 0.
        """
        self._write(step=step, summary=summary)

    def add_scalars(self, scalars: dict[str, float], step: int) -> None:
        """Add one point to each curve.

        Args:
            scalars: values by tag.
            step: step, at least 0.
        """
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self.add(Summary(value=values), step)

    def add_image(self, tag: str, png: bytes, step: int) -> None:
        """Add an image.

        Args:
            tag: tag of the image.
            png: contents of a PNG file.
            step: step, at least 0.
        """
        # fields of the PNG header
        width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))
        image = Summary.Image(encoded_image_string=png, width=width, height=height, colorspace=4)
        self.add(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def add_text(self, tag: str, yaml: str, step: int = 0) -> None:
        """Add a text in YAML.

        Args:
            tag: tag of the text.
            yaml: text.
            step: step, at least 0.
        """
        self.add(text_pb(tag, f"```yaml\n{yaml}```"), step)

    def hide_from(self, step: int) -> None:
        """Hide events of earlier files with this step or a later one."""
        self._write(step=step, session_log=SessionLog(status=SessionLog.START))

    def _write(self, **content: Any) -> None:
        try:
            self._records.write(Event(wall_time=time.time(), **content).SerializeToString())
            self._records.flush()
        except OSError as error:
            error.filename = error.filename or str(self.path)
            raise


def session_end(succeeded: bool) -> Summary:
    """Return the HParams summary of how a run ended, which summary_v2 does not provide."""
    status = api_pb2.STATUS_SUCCESS if succeeded else api_pb2.STATUS_FAILURE
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    content = plugin_data_pb2.HParamsPluginData(session_end_info=end)
    summary_metadata = metadata.create_summary_metadata(content)
    tag = metadata.SESSION_END_INFO_TAG
    value = Summary.Value(tag=tag, metadata=summary_metadata, tensor=metadata.NULL_TENSOR)
    return Summary(value=[value])
