"""geneface_jax: a talking video in, a model of that person out, and any speech recording becomes a video of that person saying it."""

__version__ = "0.1.0"
