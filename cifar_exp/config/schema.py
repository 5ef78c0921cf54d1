"""Every setting of a run: its key, type, range, the article's value and its meaning.

The defaults here are the article's, and `conf/` repeats them for Hydra (a test compares the two):
what differs from them gives a run its name.

Source: the article trains VGG16 on CIFAR-10 with Adam (0.001), MultiStepLR ([75, 150], 0.5),
batches of 64, random horizontal flips and 100 epochs.
"""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cifar_exp.paths import RESULTS


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("expected a path, in which there is no NUL")
    return text


def _is_in_a_module(name: str) -> str:
    if "." not in name or not all(map(str.isidentifier, name.split("."))):
        raise ValueError("expected a module and what is in it, such as my_package.MyNet")
    return name


def _plain(value: Any) -> Any:
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict | list) or (isinstance(one, float) and not math.isfinite(one)):
            raise ValueError("expected a number, text, true, false, null or a list of these")
    return value


LearningRate = Annotated[float, Field(gt=0, description="step size of the optimizer")]
WeightDecay = Annotated[float, Field(ge=0, description="pull of the weights towards 0")]
Momentum = Annotated[float, Field(ge=0, lt=1, description="share of the last step that is kept")]
Betas = Annotated[
    tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]],
    Field(description="memory of the gradient and of its square"),
]
Epsilon = Annotated[float, Field(gt=0, description="keeps a division from dividing by 0")]
PathText = Annotated[str, Field(max_length=4096), AfterValidator(_without_nul)]
Limit = Annotated[
    int | None, Field(ge=1, description="take this many images, balanced over the classes")
]


Plain = Annotated[Any, AfterValidator(_plain)]


class Section(BaseModel):
    """Settings that cannot change once checked; unknown keys and wrong types are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, serialize_by_alias=True
    )


class Own(Section):
    """Code of the user's own: what it is called with is whatever else stands in the section."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Plain]

    name: Literal["own"] = "own"
    target: Annotated[str, AfterValidator(_is_in_a_module)] = Field(
        alias="_target_", max_length=200, description="what is called, such as my_package.MyNet"
    )

    @property
    def settings(self) -> dict[str, Any]:
        """The keyword arguments that the user gives."""
        return dict(self.__pydantic_extra__)


class _Data(Section):
    batch_size: int = Field(64, ge=1, description="images in a step")
    augment: Literal["none", "flip", "crop", "crop_flip"] = Field(
        "flip", description="random horizontal flip, random crop after padding by 4, both or none"
    )
    cutout: int = Field(
        0, ge=0, le=512, description="blacken a square of so many pixels a side; 0: none"
    )
    test_flip: bool = Field(
        False, description="test on the mean of the logits of an image and its mirror image"
    )
    normalize: Literal["none", "channels"] = Field(
        "none", description="none: values in [0, 1]; channels: mean 0, deviation 1 in each channel"
    )
    limit_train: Limit = None
    limit_test: Limit = None
    val_fraction: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="share of the training images that is held out, the same for every seed, and "
        "evaluated instead of the test images; 0: none",
    )

    @property
    def evaluated_on(self) -> Literal["test", "validation"]:
        """Which images a run is evaluated on after each epoch."""
        return "validation" if self.val_fraction else "test"


class Cifar10(_Data):
    """CIFAR-10, 50,000 training and 10,000 test images of ten classes."""

    name: Literal["cifar10"] = "cifar10"
    root: PathText = Field("data", description="folder of the downloaded archive")


class ImageFolder(_Data):
    """The user's images in root/train/<class>/ and root/test/<class>/, or in root/<class>/."""

    name: Literal["image_folder"] = "image_folder"
    root: PathText = Field(description="folder that holds train/ and test/, or the classes")
    same_as: PathText | None = Field(
        None,
        description="folder under which runs know the same images, from before they were moved; "
        "found by what the images hold",
    )
    image_size: int = Field(32, ge=32, le=512, description="pixels a side after resizing")
    test_fraction: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of each class that becomes test images, the same for every seed, where "
        "root holds the classes",
    )


class Synthetic(_Data):
    """Ten classes of shapes made by a seeded generator; needs no download."""

    name: Literal["synthetic"] = "synthetic"
    train_size: int = Field(5000, ge=10, le=1_000_000, description="training images to make")
    test_size: int = Field(1000, ge=10, le=1_000_000, description="test images to make")


class OwnData(_Data, Own):
    """Images of the user's own, which a function of his returns."""


class Model(Section):
    """A network with BatchNorm and one linear layer."""

    name: Literal["resnet18", "vgg11", "vgg13", "vgg16", "vgg19"] = "vgg16"
    width: float = Field(1.0, ge=1 / 64, le=8, description="factor on the channels of every layer")
    dropout: float = Field(0.0, ge=0, lt=1, description="probability before the linear layer")


class OwnModel(Own):
    """A network of the user's own."""


class Adam(Section):
    """Adam with L2 weight decay added to the gradient. Source: Kingma and Ba, 2015."""

    name: Literal["adam"] = "adam"
    lr: LearningRate = 0.001
    weight_decay: WeightDecay = 0.0
    betas: Betas = (0.9, 0.999)
    eps: Epsilon = 1e-8


class AdamW(Section):
    """Adam with decoupled weight decay. Source: Loshchilov and Hutter, 2019."""

    name: Literal["adamw"] = "adamw"
    lr: LearningRate = 0.001
    weight_decay: WeightDecay = 0.01
    betas: Betas = (0.9, 0.999)
    eps: Epsilon = 1e-8


class Sgd(Section):
    """Stochastic gradient descent with momentum. Source: Sutskever et al., 2013."""

    name: Literal["sgd"] = "sgd"
    lr: LearningRate = 0.05
    weight_decay: WeightDecay = 0.0
    momentum: Momentum = 0.9
    nesterov: bool = Field(True, description="look ahead along the momentum; needs momentum > 0")

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError(
                "expected momentum > 0 with nesterov=true; set optimizer.nesterov=false"
            )
        return self


class RmsProp(Section):
    """RMSprop. Source: Tieleman and Hinton, 2012, lecture 6e."""

    name: Literal["rmsprop"] = "rmsprop"
    lr: LearningRate = 0.001
    weight_decay: WeightDecay = 0.0
    alpha: float = Field(0.99, ge=0, lt=1, description="memory of the squared gradients")
    momentum: Momentum = 0.0
    eps: Epsilon = 1e-8


class MultiStep(Section):
    """The rate is multiplied by gamma when each milestone is reached."""

    name: Literal["multistep"] = "multistep"
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (75, 150), description="epochs after which the rate falls"
    )
    gamma: float = Field(0.5, gt=0, le=1, description="factor at each milestone")


class Constant(Section):
    """The rate never changes."""

    name: Literal["constant"] = "constant"


class Cosine(Section):
    """Half a cosine from the rate to a final share of it. Source: Loshchilov and Hutter, 2017."""

    name: Literal["cosine"] = "cosine"
    final_factor: float = Field(0.0, ge=0, le=1, description="share of the rate left at the end")


class OneCycle(Section):
    """Up to the rate and down again, changed at every step. Source: Smith and Topin, 2018."""

    name: Literal["onecycle"] = "onecycle"
    warmup_fraction: float = Field(0.3, gt=0, lt=1, description="share of the steps going up")
    initial_divisor: float = Field(25.0, ge=1, description="the first rate is the peak over this")
    final_divisor: float = Field(10_000.0, ge=1, description="the last is the first over this")


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


class Paths(Section):
    """Where files go; relative to the folder the command is called from."""

    results: PathText = Field(RESULTS, description="run and sweep folders")
    logs: PathText = Field("logs", description="TensorBoard's event files")
    cache: PathText = Field("data", description="decoded images of data=image_folder")


class RunConfig(Section):
    """All settings of one run."""

    data: Annotated[Cifar10 | ImageFolder | Synthetic | OwnData, Field(discriminator="name")] = (
        Cifar10()
    )
    model: Annotated[Model | OwnModel, Field(discriminator="name")] = Model()
    optimizer: Annotated[Adam | AdamW | Sgd | RmsProp, Field(discriminator="name")] = Adam()
    scheduler: Annotated[MultiStep | Constant | Cosine | OneCycle, Field(discriminator="name")] = (
        MultiStep()
    )
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
    rerun: bool = Field(False, description="train again what is complete; the old run is set aside")
    resume: Literal["auto", "fresh"] = Field(
        "auto", description="fresh: a run that cannot go on starts again; the old one is set aside"
    )
    keep_checkpoint: bool = Field(
        True,
        description="keep the last checkpoint of a complete run, which a longer run continues",
    )

    @property
    def own_code(self) -> frozenset[str]:
        """The names of the user's own code that the settings call."""
        parts = (self.data, self.model)
        return frozenset(part.target for part in parts if isinstance(part, Own))


# Sections that can name code of the user's own.
CAN_BE_OWN = ("data", "model")
Data = Cifar10 | ImageFolder | Synthetic | OwnData
Network = Model | OwnModel
Optimizer = Adam | AdamW | Sgd | RmsProp
Scheduler = MultiStep | Constant | Cosine | OneCycle


def in_group(config: RunConfig, group: str) -> RunConfig:
    """Return the settings with a group for W&B and Trackio, where they are wanted and have none."""
    logger = config.logger
    if logger.group or not (logger.wandb or logger.trackio):
        return config
    return config.model_copy(update={"logger": logger.model_copy(update={"group": group})})
