"""Makes the README's picture from a side-by-side video of `geneface evaluate`: truth above, ours below, evenly spaced frames.

python scripts/readme_picture.py runs/demo/heldout/beside_truth.mp4 docs/images/avatar.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from data_tools.video.read import read_video


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, help="truth, ours and their difference side by side")
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, default=6)
    args = parser.parse_args()
    frames = list(read_video(args.video))
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, args.frames + 2).astype(int)[1:-1]]
    width = chosen[0].shape[1] // 3
    columns = [np.concatenate([frame[:, :width], frame[:, width : 2 * width]]) for frame in chosen]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(columns, axis=1)).save(args.out, optimize=True)
    print(args.out)


if __name__ == "__main__":
    main()
