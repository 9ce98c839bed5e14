"""How the original stores occupancy: cells along a Morton curve, one bit each. Used where its files come in or go out."""

from geneface_kernels.bit_grid.bits import pack_bits, unpack_bits
from geneface_kernels.bit_grid.morton import MAX_COORDINATE, from_morton_order, morton_decode, morton_encode, to_morton_order

__all__ = ["MAX_COORDINATE", "from_morton_order", "morton_decode", "morton_encode", "pack_bits", "to_morton_order", "unpack_bits"]
