"""The last retraining of an assignment: long, with augmentation, kept on disk after every epoch."""

from releq_env.retraining.final.identity import FINAL_VERSION, digest
from releq_env.retraining.final.retraining import DivergedError, FinalRetraining, Trained

__all__ = ["FINAL_VERSION", "DivergedError", "FinalRetraining", "Trained", "digest"]
