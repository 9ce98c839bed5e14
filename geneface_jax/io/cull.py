"""The file `cull.npz` beside a head: cells and torso pixels that show in pictures, bound to its networks by their fingerprints."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.errors import InputError
from data_tools.io import write_npz
from data_tools.records import ArrayFile
from geneface_jax.typing import Bool, Integer

FILE = "cull.npz"

LARGEST = 512**3
"""Most cells or pixels."""

REMEDY = "make it again with `geneface bake SUBJECT`, or delete it (rendering is slower without it)"


@dataclasses.dataclass(frozen=True)
class Cull:
    """What rendering may skip.

    Attributes:
      head: fingerprint of the head (`weights.head_fingerprint`).
      torso: fingerprint of the torso (`weights.params_fingerprint`); "" without one.
      cells: cells that add to a picture.
      torso_pixels: pixels of a picture of the trained size at which the torso is not transparent in some frame; None without a torso.
    """

    head: str
    torso: str
    cells: Bool[np.ndarray, "R R R"]
    torso_pixels: Bool[np.ndarray, "S S"] | None

    @property
    def words(self) -> Integer[np.ndarray, "R R Z"]:
        """The cells in bits, as `geneface_kernels.occupancy.pack_cells` makes them; R is a multiple of 32."""
        return np.packbits(self.cells, axis=-1, bitorder="little").view("<u4").astype(np.uint32)

    def save(self, workdir: str | Path) -> Path:
        """Writes `WORKDIR/cull.npz`, in bits."""
        arrays: dict[str, Any] = {
            "head": np.array(self.head),
            "torso": np.array(self.torso),
            "resolution": np.array(len(self.cells), np.int32),
            "cells": np.packbits(self.cells),
        }
        if self.torso_pixels is not None:
            arrays |= {"size": np.array(len(self.torso_pixels), np.int32), "torso_pixels": np.packbits(self.torso_pixels)}
        return write_npz(Path(workdir) / FILE, **arrays)


def read(workdir: str | Path) -> Cull | None:
    """The cull of a head's work folder; None if it has none.

    Raises:
      InputError: the file is damaged.
    """
    path = Path(workdir) / FILE
    if not path.is_file():
        return None
    with ArrayFile(path, REMEDY) as file:
        cells = _unpacked(path, file, "cells", "resolution", 3)
        torso_pixels = _unpacked(path, file, "torso_pixels", "size", 2) if "torso_pixels" in file.files else None
        return Cull(str(file["head"]), str(file["torso"]), cells, torso_pixels)


def _unpacked(path: Path, file: ArrayFile, name: str, side_name: str, axes: int) -> np.ndarray:
    """Bits as a square or a cube with the side that the file says."""
    stated, bits = file[side_name], file[name]
    side = int(stated) if not stated.shape and stated.dtype.kind == "i" else 0
    count = side**axes
    # Cells are packed 32 to a word for rendering.
    possible = 0 < side and count <= LARGEST and not (axes == 3 and side % 32)
    if not possible or bits.dtype != np.uint8 or bits.shape != (-(-count // 8),):
        raise InputError(f"{path} has no {name} of the {side_name} that it states: {REMEDY}.")
    return np.unpackbits(bits, count=count).astype(bool).reshape((side,) * axes)
