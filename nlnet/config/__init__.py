"""From a command line to objects: the only room that knows Hydra."""

from nlnet.config.build import TrainedModel, TrainJob, build_train, load_model
from nlnet.config.compose import check, compose

__all__ = ["TrainJob", "TrainedModel", "build_train", "check", "compose", "load_model"]
