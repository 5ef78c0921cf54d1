"""Import PyTorch and load a run's images: the minimum before a first step.

The argument is a run's settings as JSON. Prints the seconds of loading and the current time.
"""

import json
import sys
import time
from pathlib import Path

import torch  # noqa: F401

from cifar_exp.config.schema import RunConfig
from cifar_exp.data.settings import ImageFolder
from cifar_exp.data.sources import load

if __name__ == "__main__":
    config = RunConfig.model_validate_json(sys.argv[1])
    if isinstance(config.data, ImageFolder):
        from cifar_exp.data import image_folder  # noqa: F401  # keeps the import out of the time
    started = time.perf_counter()
    dataset = load(config.data, Path(config.paths.cache))
    seconds = time.perf_counter() - started
    images = len(dataset.train) + len(dataset.test)
    print(json.dumps({"seconds": seconds, "images": images, "time": time.time()}))
