"""From a command line to objects: the only room that knows Hydra."""

from nlnet.config.compose import check, compose
from nlnet.config.models import TrainedModel, load_model
from nlnet.config.train import TrainJob, build_train

__all__ = ["TrainJob", "TrainedModel", "build_train", "check", "compose", "load_model"]
