"""Frequency (positional) encoding without the pi factor."""

from geneface_kernels.frequency_encoding.encode import frequency_encode

__all__ = ["frequency_encode"]
