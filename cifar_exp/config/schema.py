"""Every setting of a run: its key, type, range, the article's value and its meaning.

The settings of a data set, network, optimizer or scheduler are next to what builds it.

The defaults here are the article's, and `conf/` repeats them for Hydra (a test compares the two):
what differs from them gives a run its name.

Source: the article trains VGG16 on CIFAR-10 with Adam (0.001), MultiStepLR ([75, 150], 0.5),
batches of 64, random horizontal flips and 100 epochs.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from cifar_exp.config.metrics import OPTIONAL
from cifar_exp.data.settings import Cifar10, Data
from cifar_exp.models.settings import Model, Network
from cifar_exp.optimizers import Adam, Optimizer
from cifar_exp.paths import RESULTS
from cifar_exp.schedulers import MultiStep, Scheduler
from cifar_exp.sections import CustomCode, PathText, Section


def _is_optional_metric(name: str) -> str:
    if name not in OPTIONAL:
        raise ValueError(f"expected one of {', '.join(OPTIONAL)}")
    return name


OptionalMetric = Annotated[
    str, AfterValidator(_is_optional_metric), WithJsonSchema({"enum": OPTIONAL})
]


class Training(Section):
    """How long a run trains."""

    epochs: int = Field(100, ge=1, le=1_000_000, description="passes over the training set")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the label spread over all classes while training"
    )


class Logger(Section):
    """Which mirrors of the metrics are written beside metrics.jsonl."""

    tensorboard: bool = Field(False, description="event files under paths.logs")
    wandb: bool = Field(False, description="Weights & Biases; offline where no key is set")
    trackio: bool = Field(False, description="Trackio, on this machine")
    project: str = Field(
        "cifar-exp", pattern=r"^[\w.-]+$", max_length=80, description="of W&B and Trackio"
    )
    group: str | None = Field(
        None, max_length=120, description="of the runs there; null: the study or sweep"
    )

    @property
    def chosen(self) -> tuple[str, ...]:
        """The loggers that are on: `NAME: true` stands for that of `loggers/NAME.py`."""
        return tuple(name for name, value in self if value is True)


class Paths(Section):
    """Where files go; relative to the folder the command is called from."""

    results: PathText = Field(RESULTS, description="run and sweep folders")
    logs: PathText = Field("logs", description="TensorBoard's event files")
    cache: PathText = Field("data", description="decoded images of data=image_folder")


class RunConfig(Section):
    """All settings of one run."""

    data: Annotated[Data, Field(discriminator="name")] = Cifar10()
    model: Annotated[Network, Field(discriminator="name")] = Model()
    optimizer: Annotated[Optimizer, Field(discriminator="name")] = Adam()
    scheduler: Annotated[Scheduler, Field(discriminator="name")] = MultiStep()
    training: Training = Training()
    seed: int = Field(0, ge=0, lt=2**63, description="weights, order, augmentation and dropout")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: a GPU where there is one"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where it is faster"
    )
    deterministic: bool = Field(
        True, description="on a GPU: the same bits every time; false allows faster kernels"
    )
    logger: Logger = Logger(tensorboard=True)
    paths: Paths = Paths()
    metrics: tuple[OptionalMetric, ...] = Field(
        (), description="measured besides loss and accuracy; costs a little time"
    )
    rerun: bool = Field(False, description="train again what is complete; the old run is set aside")
    resume: Literal["auto", "fresh"] = Field(
        "auto", description="fresh: a run that cannot go on starts again; the old one is set aside"
    )
    keep_checkpoint: bool = Field(
        True,
        description="keep the last checkpoint of a complete run, which a longer run continues",
    )

    @property
    def custom_code(self) -> frozenset[str]:
        """The names of the custom code that the settings call."""
        parts = (self.data, self.model)
        return frozenset(part.target for part in parts if isinstance(part, CustomCode))


# Sections that can name code of the user's own.
CAN_BE_CUSTOM = ("data", "model")
