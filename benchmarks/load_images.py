"""Imports PyTorch and loads a run's images: the least that must be done before a first step.

The images are named by a run's settings, as JSON; it prints the seconds of loading and the time.
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
        from cifar_exp.data import image_folder  # noqa: F401  # else imported while timed
    started = time.perf_counter()
    dataset = load(config.data, Path(config.paths.cache))
    seconds = time.perf_counter() - started
    images = len(dataset.train) + len(dataset.test)
    print(json.dumps({"seconds": seconds, "images": images, "time": time.time()}))
