"""The schema of a run's settings: keys, types, ranges, defaults and descriptions.

The settings of data sets, networks, optimizers and schedulers are in their own modules.

The defaults are the article's and equal those in `conf/`. A run is named after the settings that
differ from them.

Source: the article trains VGG16 on CIFAR-10 with Adam (0.001), MultiStepLR ([75, 150], 0.5),
batches of 64, random horizontal flips and 100 epochs.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from cifar_exp.config.metrics import OPTIONAL
from cifar_exp.data.settings import Cifar10, Data
from cifar_exp.models.settings import Model, Network
from cifar_exp.optimizers import Adam, Optimizer
from cifar_exp.paths import RESULTS
from cifar_exp.schedulers import MultiStep, Scheduler
from cifar_exp.sections import CustomCode, PathText, Section


def _check_optional_metric(name: str) -> str:
    if name not in OPTIONAL:
        raise ValueError(f"expected one of {', '.join(OPTIONAL)}")
    return name


OptionalMetric = Annotated[
    str, AfterValidator(_check_optional_metric), WithJsonSchema({"enum": OPTIONAL})
]


class Training(Section):
    """Settings of the training loop."""

    epochs: int = Field(
        100, ge=1, le=1_000_000, description="number of passes over the training images"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="label smoothing of the training loss"
    )
    keep: Literal["last", "best"] = Field(
        "last", description="epoch whose weights are kept; best: highest validation accuracy"
    )
    patience: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="stop after this many epochs without a higher validation accuracy; null: never",
    )


class Logger(Section):
    """The loggers that receive the metrics in addition to metrics.jsonl."""

    tensorboard: bool = Field(
        False,
        description="TensorBoard: event files in paths.logs; true by default, since "
        "conf/config.yaml selects logger=tensorboard",
    )
    wandb: bool = Field(False, description="Weights & Biases; offline without an API key")
    trackio: bool = Field(False, description="Trackio, stored on this machine")
    mlflow: bool = Field(False, description="MLflow: a database in paths.logs, or a server")
    project: str = Field(
        "cifar-exp",
        pattern=r"^[\w.-]+$",
        max_length=80,
        description="project in W&B and Trackio, experiment in MLflow",
    )
    group: str | None = Field(
        None,
        max_length=120,
        description="group in W&B, Trackio and MLflow; null: the study or sweep",
    )

    @property
    def chosen(self) -> tuple[str, ...]:
        """The names of the enabled loggers, each a module of `cifar_exp.loggers`."""
        return tuple(name for name, value in self if value is True)


class Paths(Section):
    """Folders, relative to the working directory."""

    results: PathText = Field(RESULTS, description="folders of runs, sweeps and searches")
    logs: PathText = Field(
        "logs", description="event files of TensorBoard, and the database of MLflow"
    )
    cache: PathText = Field("data", description="decoded images of data=image_folder")


class RunConfig(Section):
    """All settings of a run."""

    data: Annotated[Data, Field(discriminator="name")] = Cifar10()
    model: Annotated[Network, Field(discriminator="name")] = Model()
    optimizer: Annotated[Optimizer, Field(discriminator="name")] = Adam()
    scheduler: Annotated[Scheduler, Field(discriminator="name")] = MultiStep()
    training: Training = Training()
    seed: int = Field(
        0, ge=0, lt=2**63, description="seed of weights, order of images, augmentation and dropout"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU if available")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 if it is faster on the device"
    )
    deterministic: bool = Field(
        True, description="reproducible results on a GPU; false allows faster kernels"
    )
    logger: Logger = Logger(tensorboard=True)
    paths: Paths = Paths()
    metrics: tuple[OptionalMetric, ...] = Field(
        (), description="optional metrics to measure; they take a little time"
    )
    rerun: bool = Field(False, description="train complete runs again; the old run is set aside")
    resume: Literal["auto", "fresh"] = Field(
        "auto", description="fresh: restart a run that cannot be resumed; the old run is set aside"
    )
    keep_checkpoint: bool = Field(
        True,
        description="keep the last checkpoint of a complete run, to continue it for more epochs",
    )

    @model_validator(mode="after")
    def _selects_by_validation(self) -> Self:
        keep, patience = self.training.keep, self.training.patience
        if self.data.evaluated_on == "test" and (keep == "best" or patience is not None):
            setting = "keep=best" if keep == "best" else f"patience={patience}"
            raise ValueError(
                f"training.{setting}: expected validation images, since test images must not "
                "select an epoch. Set data.val_fraction=0.1."
            )
        return self

    @property
    def custom_code(self) -> frozenset[str]:
        """The names of the custom functions and classes in the settings."""
        parts = (self.data, self.model)
        return frozenset(part.target for part in parts if isinstance(part, CustomCode))


# Sections of which one option is chosen, and those that accept custom code.
WITH_OPTIONS = ("data", "model", "optimizer", "scheduler")
CAN_BE_CUSTOM = ("data", "model")
