"""The folders of recorded networks that can be checked, and their readers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import jax

from tests.parity.kernels.comparison import Comparison
from tests.parity.networks import (
    audio2motion,
    audio2motion_pitch,
    condition_encoders,
    motion_filters,
    nerf,
    postnet,
    radnerf_head,
    radnerf_head_sr,
    radnerf_torso,
    radnerf_torso_sr,
    super_resolution,
    syncnet,
)
from tests.parity.networks.vectors import Reader, Vectors

READERS: dict[str, Reader] = {
    "cond_encoders": condition_encoders.check,
    "lle_postproc": motion_filters.check,
    "pp_audio2motion_pitch": audio2motion_pitch.check,
    "pp_radnerf_head_sr": radnerf_head_sr.check,
    "pp_radnerf_torso_sr": radnerf_torso_sr.check,
    "pp_sr_net": super_resolution.check,
    "v1_audio2motion_lm3d_vae_sync": audio2motion.check,
    "v1_audio2motion_lm3d_vae_sync_pitch": audio2motion_pitch.check,
    "v1_lm3d_nerf": nerf.check_head,
    "v1_lm3d_nerf_torso": nerf.check_torso,
    "v1_postnet": postnet.check,
    "v1_radnerf_head": radnerf_head.check,
    "v1_radnerf_torso": radnerf_torso.check,
    "v1_syncnet": syncnet.check,
}


@dataclasses.dataclass(frozen=True)
class Row:
    """Result of one folder; without a reader there are no comparisons.

    Attributes:
      folder: its name.
      checks: one per recorded array.
      unread: recorded keys that the reader does not read.
      known: whether there is a reader for it.
    """

    folder: str
    checks: tuple[Comparison, ...]
    unread: tuple[str, ...]
    known: bool

    @property
    def missed(self) -> int:
        """Number of failed comparisons; a folder whose reader compared nothing counts as one."""
        return sum(not check.passed for check in self.checks) + (self.known and not self.checks)

    @property
    def worst(self) -> Comparison | None:
        """The comparison with the largest error; None if there is none."""
        return max(self.checks, key=lambda check: check.worst, default=None)


def check_folder(root: Path) -> Iterator[Row]:
    """Yields a row for every folder in `root` with an `io.npz`, computed in full float32 precision."""
    for path in sorted(folder.parent for folder in root.glob("*/io.npz")):
        yield check_one(path)


def check_one(folder: Path) -> Row:
    """The row of one folder."""
    reader = READERS.get(folder.name)
    if reader is None:
        return Row(folder.name, (), (), False)
    vectors = Vectors(folder)
    with jax.default_matmul_precision("highest"):
        checks = tuple(reader(vectors))
    return Row(folder.name, checks, tuple(vectors.unread()), True)
