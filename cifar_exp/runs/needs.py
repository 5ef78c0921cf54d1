"""What runs need on this machine, as the check before training finds it (no PyTorch import)."""

from dataclasses import dataclass

from cifar_exp.data.settings import Contents


@dataclass(frozen=True)
class Needs:
    """The result of `preflight`.

    Attributes:
        kept_bytes: size of the last checkpoints, which stay on disk.
        disk_bytes: space that all runs need while they train, with the checkpoints.
        contents: images of each run, after limits and without validation images.
    """

    kept_bytes: int = 0
    disk_bytes: int = 0
    contents: tuple[Contents, ...] = ()
