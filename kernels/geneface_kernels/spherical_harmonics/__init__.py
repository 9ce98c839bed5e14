"""Real spherical harmonics as polynomials of a direction."""

from geneface_kernels.spherical_harmonics.polynomials import MAX_DEGREE, spherical_harmonics

__all__ = ["MAX_DEGREE", "spherical_harmonics"]
