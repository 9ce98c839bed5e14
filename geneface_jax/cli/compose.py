"""Pastes a result of `geneface infer` back into the uncropped video, at the place that the crop noted."""

from data_tools.compose import add_arguments, run

__all__ = ["add_arguments", "run"]
