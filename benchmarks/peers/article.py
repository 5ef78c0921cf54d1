"""The article's loop, one run after another. `python article.py IMAGES RUNS EPOCHS WIDTH`."""

import sys

import numpy as np
import torch
from article_loop import ArticleLoop


def train(images: str, seed: int, epochs: int, width: float) -> float:
    """Train a run and return its test accuracy. Args: images: a file that `peers.py` writes."""
    torch.manual_seed(seed)
    with np.load(images) as file:
        train, test = (
            (file[f"{split}_images"], file[f"{split}_labels"].tolist())
            for split in ("train", "test")
        )
    loop = ArticleLoop(train, test, torch.device("cpu"), width=width)
    accuracy = 0.0
    for _ in range(epochs):
        _, accuracy = loop.epoch()
    return float(accuracy)


if __name__ == "__main__":
    for seed in range(int(sys.argv[2])):
        print(seed, train(sys.argv[1], seed, int(sys.argv[3]), float(sys.argv[4])))
