"""What a search is: its space, what its trials share, and where it keeps its files."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cifar_exp.config.identity import identity
from cifar_exp.config.keys import SHORT_NAMES, short_names
from cifar_exp.config.schema import RunConfig
from cifar_exp.config.search_settings import SearchSettings
from cifar_exp.errors import UserError
from cifar_exp.expressions import as_path
from cifar_exp.files import shortened
from cifar_exp.search.space import Domain

Compose = Callable[[Sequence[str]], RunConfig]
Params = Mapping[str, Any]
_VALIDATION = "data.val_fraction"
_USUAL_FRACTION = 0.1
_DIGITS = 6
# Settings of the data that change neither the images nor their parting.
_OF_TRAINING = {"batch_size", "augment", "cutout", "normalize", "test_flip"}
# Of a search, what does not change which trials come.
_NOT_IN_IDENTITY = {"n_trials", "storage", "confirm", "baseline"}


@dataclass(frozen=True)
class Plan:
    """A search that has been checked.

    Attributes:
        settings: under `hydra.sweeper`.
        space: what is chosen, by key.
        shared: the overrides of all trials.
        start: the run that these make alone: what the search begins with.
        examples: runs with the ends of the space, which Hydra could compose.
    """

    settings: SearchSettings
    space: Mapping[str, Domain]
    shared: Sequence[str]
    start: RunConfig
    examples: Sequence[RunConfig]
    _compose: Compose

    @property
    def folder(self) -> Path:
        """Where the search keeps its files; the same command finds it again."""
        settings = self.settings.model_dump(mode="json", exclude=_NOT_IN_IDENTITY)
        space = {key: asdict(domain) for key, domain in self.space.items()}
        content = json.dumps([identity(self.start), space, settings], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:10]
        name = shortened(f"search-{','.join(short_names(list(self.space)))}", 80)
        return as_path(self.start.paths.results) / f"{name}-{digest}"

    @property
    def epochs(self) -> int:
        """Of the longest run."""
        return max(example.training.epochs for example in self.examples)

    def config(self, params: Params) -> RunConfig:
        """Return the run of a trial.

        Raises:
            UserError: these values do not go together.
        """
        values = as_trained(params)
        return self._compose([*self.shared, *(f"{key}={values[key]}" for key in values)])


def as_trained(params: Params) -> dict[str, Any]:
    """Return the values with which a trial is trained: Optuna's, in digits one can type again."""
    return {
        key: float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
        for key, value in params.items()
    }


def in_words(params: Mapping[str, Any]) -> str:
    """Return the values of a trial as one types them: `lr=0.00312274 optimizer.momentum=0.9`."""
    names = {key: name for name, key in SHORT_NAMES.items()}
    return " ".join(f"{names.get(key, key)}={v}" for key, v in as_trained(params).items())


def make_plan(
    settings: SearchSettings,
    space: Mapping[str, Domain],
    shared: Sequence[str],
    compose: Compose,
) -> Plan:
    """Check a search before it begins.

    Args:
        settings: under `hydra.sweeper`.
        space: what is chosen, by key.
        shared: the overrides of all trials.
        compose: makes a run of overrides.

    Raises:
        UserError: it cannot work, or would not be judged by validation images alone.
    """
    if not space:
        raise UserError(
            "the search has nothing to choose; name it under hydra.sweeper.params or here, "
            "such as 'lr=tag(log, interval(1e-5, 1e-1))'"
        )
    start = _start(space, shared, compose)
    if start.data.evaluated_on == "test":
        if any(override.startswith(_VALIDATION) for override in shared):
            raise UserError(
                f"{_VALIDATION}: expected more than 0 in a search, which must not see test images"
            )
        shared = [f"{_VALIDATION}={_USUAL_FRACTION}", *shared]
        start = _start(space, shared, compose)
    if start.rerun:
        raise UserError("rerun: expected false in a search, whose trials stay as they are")
    examples: list[RunConfig] = []
    plan = Plan(settings, space, shared, start, examples, compose)
    for key, params in _examples(space):
        examples.append(plan.config(params))
        if _judged_by(examples[-1]) != _judged_by(start):
            raise UserError(
                f"{key}: expected one value in a search, whose trials are compared on the same "
                "images, with the same seed"
            )
    return plan


def _start(space: Mapping[str, Domain], shared: Sequence[str], compose: Compose) -> RunConfig:
    """Return the run of the shared settings, with the first options of groups where it needs some.

    `optimizer=choice(sgd,rmsprop) optimizer.momentum=0.5` has none otherwise: Adam lacks momentum.
    """
    try:
        return compose(shared)
    except UserError:
        first = [f"{key}={space[key].examples[0]}" for key in space if "." not in key]
        if not first:
            raise
        return compose([*first, *shared])


def _examples(space: Mapping[str, Domain]) -> Iterator[tuple[str, Params]]:
    """Yield values for all keys, such that each example of a key is there, and that key."""
    first = {key: domain.examples[0] for key, domain in space.items()}
    for key, domain in space.items():
        yield from ((key, first | {key: value}) for value in domain.examples)


def _judged_by(config: RunConfig) -> Any:
    images = config.data.model_dump(mode="json", exclude=_OF_TRAINING)
    return config.seed, images, config.paths, config.rerun
