"""Train a run as lightning-hydra-template does: all objects are instantiated from the settings.

This is a smaller version, written for this comparison: `python train.py -m "seed=range(8)"`.
"""

import hydra
import lightning
from hydra.utils import instantiate
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> float:
    """Train and test a run, and return the best accuracy."""
    lightning.seed_everything(config.seed, workers=True)
    data, model = instantiate(config.data), instantiate(config.model)
    callbacks = [instantiate(callback) for callback in config.callbacks.values()]
    trainer = instantiate(config.trainer, callbacks=callbacks, logger=False)
    trainer.fit(model=model, datamodule=data)
    if config.test:
        trainer.test(model=model, datamodule=data, ckpt_path="best", weights_only=False)
    return float(trainer.callback_metrics["test/acc"])


if __name__ == "__main__":
    main()
