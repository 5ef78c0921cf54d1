"""State of the emulated GPU: streams, memory and findings.

Vector clocks order the operations. A stream's clock counts its operations. `seen` has, for each
stream, the last operation that precedes the stream's next one. The host has a vector clock, too.
"""

import sys
import threading
import time
import weakref
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch

Seen = dict[int, int]  # stream -> number of its operations known to be complete

_HERE = str(Path(__file__).parent)
_TORCH = str(Path(torch.__file__).parent)


class UseAfterFree(RuntimeError):
    """A graph reads or writes memory that has been freed."""


class SyncInCapture(RuntimeError):
    """An operation that CUDA does not permit during capture."""


@dataclass
class Finding:
    """A hazard or a synchronization."""

    kind: str  # sync, race, freed-in-use, rng, workspace
    what: str
    where: str

    def __str__(self) -> str:
        return f"[{self.kind}] {self.what}  at {self.where}"


@dataclass
class Pool:
    """Memory shared by graphs. `last` is the graph that was replayed last."""

    number: int
    graphs: list = field(default_factory=list)
    last: object = None


class Block:
    """A block of GPU memory, with its last write and reads by stream and clock."""

    def __init__(self, gpu: "Gpu", nbytes: int, stream: "int") -> None:
        self.gpu, self.nbytes, self.stream = gpu, 0, stream
        self.number = gpu.blocks = gpu.blocks + 1
        self.written: tuple[int, int] | None = None
        self.read: Seen = {}
        self.recorded: set[int] = set()  # record_stream
        self.made_at = gpu.where() if gpu.traces else ""
        gpu.allocate(nbytes)
        self.nbytes = nbytes

    def __del__(self) -> None:
        gpu = self.gpu
        gpu.allocated -= self.nbytes
        uses = dict(self.read)
        if self.written:
            uses[self.written[0]] = max(self.written[1], uses.get(self.written[0], 0))
        owner = gpu.streams.get(self.stream)
        for stream, clock in uses.items():
            if stream == self.stream or stream in self.recorded:
                continue
            done = max(gpu.host.get(stream, 0), owner.seen.get(stream, 0) if owner else 0)
            if clock > done and not gpu.shutting_down:
                gpu.find(
                    "freed-in-use",
                    f"{self.nbytes} bytes of stream {self.stream} freed while stream {stream} may "
                    f"use them (operation {clock}, complete up to {done}) {self.made_at}",
                )


class Gpu:
    """The emulated device."""

    def __init__(self) -> None:
        self.total_bytes = 80 * 10**9
        self.limit_bytes = self.total_bytes
        self.reset()

    def reset(self) -> None:
        self.lock = threading.RLock()
        self.shutting_down = False
        self.streams: dict[int, object] = {}
        self.host: Seen = {}
        self.pending: list[
            tuple[int, int, object]
        ] = []  # copies in progress to or from pinned memory
        self.allocated = self.peak = self.reserved = 0
        self.blocks = 0
        self.findings: list[Finding] = []
        self.ops: Counter = Counter()
        self.log_ops = False
        self.op_log: list[tuple[str, int, bool]] = []
        self.capture = None  # CUDAGraph during capture
        self.sync_mode = "default"
        self.traces = False
        self.poll_lag = 1  # number of polls before an event completes
        self.quiet = threading.local()
        self.by_storage: weakref.WeakValueDictionary[int, Block] = weakref.WeakValueDictionary()

    # memory

    def allocate(self, nbytes: int) -> None:
        if self.allocated + nbytes > self.limit_bytes:
            raise torch.OutOfMemoryError(
                f"CUDA out of memory. TrialCurve to allocate {nbytes} bytes (emulated)."
            )
        self.allocated += nbytes
        self.peak = max(self.peak, self.allocated)
        self.reserved = max(self.reserved, self.allocated)

    # findings

    def where(self) -> str:
        """Return the innermost line outside of PyTorch and the emulator."""
        frame = sys._getframe(1)
        while frame is not None:
            file = frame.f_code.co_filename
            if not file.startswith((_HERE, _TORCH)) and not file.startswith("<"):
                return f"{'/'.join(Path(file).parts[-3:])}:{frame.f_lineno} {frame.f_code.co_name}"
            frame = frame.f_back
        return f"another thread ({threading.current_thread().name})"

    def find(self, kind: str, what: str) -> None:
        self.findings.append(Finding(kind, what, self.where()))

    def sync(self, what: str) -> None:
        """Record that the host waits for the current stream."""
        if self.capture is not None:
            raise SyncInCapture(
                f"{what}: CUDA error: operation not permitted when stream is capturing "
                f"(emulated) at {self.where()}"
            )
        if self.sync_mode == "error":
            raise RuntimeError("called a synchronizing CUDA operation: " + what)
        self.find("sync", what)

    # order

    def advance_host(self, seen: Seen) -> None:
        for stream, clock in seen.items():
            self.host[stream] = max(self.host.get(stream, 0), clock)
        if self.pending:
            remaining = []
            for stream, clock, write in self.pending:
                if clock <= self.host.get(stream, 0):
                    write()
                else:
                    remaining.append((stream, clock, write))
            self.pending = remaining

    def enqueue(
        self, stream: "object", reads: "set[Block]", writes: "set[Block]", what: str
    ) -> int:
        """Record an operation on a stream and find unordered accesses."""
        for other, clock in self.host.items():
            if clock > stream.seen.get(other, 0):
                stream.seen[other] = clock
        stream.clock += 1
        clock = stream.seen[stream.number] = stream.clock
        for block in reads | writes:
            if block.written and block.written[1] > stream.seen.get(block.written[0], 0):
                self.find(
                    "race",
                    f"{what} on stream {stream.number} uses {block.nbytes} bytes that stream "
                    f"{block.written[0]} may not have written yet {block.made_at}",
                )
        for block in writes:
            for other, read in block.read.items():
                if read > stream.seen.get(other, 0):
                    self.find(
                        "race",
                        f"{what} on stream {stream.number} overwrites {block.nbytes} bytes that "
                        f"stream {other} may still read {block.made_at}",
                    )
            block.written, block.read = (stream.number, clock), {}
        for block in reads:
            block.read[stream.number] = clock
        return clock


GPU = Gpu()


class Stream:
    """Emulates torch.cuda.Stream: one of 32, round robin. Stream 0 is the default stream."""

    __slots__ = ("__dict__",)  # no weak references: PyTorch 2.11 crashes when it frees the stream
    _count = 0

    def __init__(self, device=None, priority: int = 0, _number: int | None = None) -> None:
        if _number is None:
            _number, Stream._count = 1 + Stream._count % 32, Stream._count + 1
        if _number not in GPU.streams:
            first = GPU.streams[_number] = object.__new__(Stream)
            first.number, first.device = _number, torch.device("cuda", 0)
            first.clock, first.seen = 0, {}
        self.__dict__ = GPU.streams[_number].__dict__  # objects of the same stream share its state

    @property
    def cuda_stream(self) -> int:
        return self.number

    @property
    def stream_id(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.number == self.number

    def __hash__(self) -> int:
        return hash(self.number)

    def synchronize(self) -> None:
        if GPU.capture is not None:
            GPU.sync("Stream.synchronize")
        GPU.find("sync", f"Stream.synchronize of stream {self.number}")
        GPU.advance_host(self.seen)

    def query(self) -> bool:
        return GPU.host.get(self.number, 0) >= self.clock

    def is_capturing(self) -> bool:
        return GPU.capture is not None

    def wait_event(self, event: "Event") -> None:
        for stream, clock in event.seen.items():
            self.seen[stream] = max(self.seen.get(stream, 0), clock)

    def wait_stream(self, other: "Stream") -> None:
        for stream, clock in other.seen.items():
            self.seen[stream] = max(self.seen.get(stream, 0), clock)

    def record_event(self, event: "Event | None" = None) -> "Event":
        event = event or Event()
        event.record(self)
        return event


class Event:
    """Emulates torch.cuda.Event. It completes after some polls or when the host waits for it."""

    def __init__(
        self,
        enable_timing: bool = False,
        blocking: bool = False,
        interprocess=False,
        external: bool = False,
    ) -> None:
        self.timing, self.external = enable_timing, external
        self.stream: int | None = None
        self.seen: Seen = {}

    def record(self, stream: Stream | None = None) -> None:
        stream = stream or current_stream()
        if GPU.capture is not None and self.timing and not self.external:
            raise SyncInCapture(f"an event with timing recorded in a capture, at {GPU.where()}")
        self.stream, self.clock = stream.number, stream.clock
        self.seen = dict(stream.seen)
        self.polls = 0
        self.time = time.perf_counter()

    def query(self) -> bool:
        if GPU.capture is not None:
            raise SyncInCapture(f"Event.query in a capture, at {GPU.where()}")
        if self.stream is None or GPU.host.get(self.stream, 0) >= self.clock:
            return True
        self.polls += 1
        if self.polls <= GPU.poll_lag:
            return False
        GPU.advance_host(self.seen)
        return True

    def synchronize(self) -> None:
        GPU.find("sync", "Event.synchronize")
        GPU.advance_host(self.seen)

    def wait(self, stream: Stream | None = None) -> None:
        (stream or current_stream()).wait_event(self)

    def elapsed_time(self, end: "Event") -> float:
        for event in (self, end):
            if not event.timing:
                raise RuntimeError(
                    "Both events must be created with argument 'enable_timing=True'."
                )
            if event.stream is None:
                raise RuntimeError("Both events must be recorded before calculating elapsed time.")
            if GPU.host.get(event.stream, 0) < event.clock:
                raise RuntimeError("Both events must be completed before calculating elapsed time.")
        return max(1000 * (end.time - self.time), 1e-3)


_CURRENT: list[Stream] = []


def current_stream(device=None) -> Stream:
    if not _CURRENT:
        _CURRENT.append(Stream(_number=0))
    return _CURRENT[-1]


def default_stream(device=None) -> Stream:
    current_stream()
    return _CURRENT[0]


class stream:  # noqa: N801
    """Emulates torch.cuda.stream. All threads share the current stream, also for backward."""

    def __init__(self, stream: Stream | None) -> None:
        self._stream = stream

    def __enter__(self) -> None:
        current_stream()
        if self._stream is not None:
            _CURRENT.append(self._stream)

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            _CURRENT.pop()


def synchronize(device=None) -> None:
    if GPU.capture is not None:
        GPU.sync("torch.cuda.synchronize")
    GPU.find("sync", "torch.cuda.synchronize")
    for each in GPU.streams.values():
        GPU.advance_host(each.seen)
