"""Static settings of training compositing."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Hashable, so that it can be a static argument of the differentiated function.

    Attributes:
      max_samples: no ray visits more samples.
      end_threshold: transmittance below which a ray has ended.
      weighted_ambient: ambient values are weighted like the colours.
      pallas: run the Pallas kernels.
      interpret: run them in interpret mode.
    """

    max_samples: int
    end_threshold: float
    weighted_ambient: bool
    pallas: bool
    interpret: bool

    @property
    def loop(self) -> dict[str, Any]:
        """The part of it that the loops take."""
        return {"max_samples": self.max_samples, "end_threshold": self.end_threshold, "weighted_ambient": self.weighted_ambient}
