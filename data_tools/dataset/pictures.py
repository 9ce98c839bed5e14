"""Frames, head masks and torso images of a dataset, made from the analysis of the cropped clip."""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from data_tools.dataset.analyze import ANALYSIS_SIZE, Analysis
from data_tools.dataset.scan import Chunk, FrameSource, chunk_frames
from data_tools.face.align import Skin, Texture, sample_texture
from data_tools.io import read_npz, write_bytes, write_npz
from data_tools.masks import WORK_SIZE, disconnected, head_region, head_share, refine, smooth_in_time, torso_image

KINDS = {"frames": "jpg", "head": "png", "torso": "png"}

TRACK, TEXTURE = "track.npz", "texture"
"""File with the clip-wide inputs (landmarks, poses, skin points), and folder of each chunk's skin texture samples."""

_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
_PNG = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
"""Masks are flat areas: run-length encoding gives smaller files than the default strategy, in less time."""

JAW_CORNERS = (58, 288)
"""Mesh points of the jaw's corners; the neck lies between them."""

NOSE_TIP = 4


def make_pictures(frame: np.ndarray, landmarks: np.ndarray, layers: np.ndarray, background: np.ndarray) -> dict[str, np.ndarray]:
    """Frame, head mask and torso image of one video frame.

    Args:
      frame: uint8 [H, W, 3], H = W.
      landmarks: [478, 2+] pixels.
      layers: [L, 256, 256] float32 mask layers of a segmenter (`data_tools.masks`).
      background: uint8 [H, W, 3].

    Returns:
      `frames` uint8 [H, W, 3] the person over the background, `head` uint8 [H, W], `torso` uint8 [H, W, 4].
    """
    size = frame.shape[0]
    small = landmarks * (WORK_SIZE / size)
    face = (float(small[NOSE_TIP, 0]), float(small[NOSE_TIP, 1]))
    confidence = np.where(disconnected(layers[0], face), np.float32(0.0), layers[0])
    region = head_region(small) if len(layers) == 1 else head_share(layers)
    # A shoulder that reaches above the border is not connected to the face: it stays with the torso.
    region = np.where(disconnected(confidence * region, face), np.float32(0.0), region)
    person = refine(confidence, frame)
    above_jaw = cv2.resize(region, (size, size), interpolation=cv2.INTER_LINEAR)
    composite = cv2.blendLinear(frame, background, person, 1.0 - person)
    head = np.round(255.0 * person * above_jaw).astype(np.uint8)
    left, right = (float(landmarks[corner, 0]) for corner in JAW_CORNERS)
    return {"frames": composite, "head": head, "torso": torso_image(composite, person, above_jaw, (left, right))}


def save_pictures(folder: Path, index: int, pictures: dict[str, np.ndarray]) -> None:
    """Writes frame `index` as `<kind>/%06d.<suffix>` under `folder`."""
    for kind, suffix in KINDS.items():
        path = folder / kind / f"{index:06d}.{suffix}"
        write_picture(path, pictures[kind], f".{suffix}", _JPEG if suffix == "jpg" else _PNG)


def write_picture(path: Path, picture: np.ndarray, encoding: str = ".png", options: Sequence[int] = ()) -> None:
    """Writes a gray, RGB or RGBA uint8 picture; `encoding` and `options` are OpenCV's (`cv2.imencode`)."""
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR if picture.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    write_bytes(path, cv2.imencode(encoding, picture, options)[1].tobytes())


@dataclasses.dataclass(frozen=True)
class PicturesJob:
    """One chunk of pictures to make.

    Attributes:
      source: decodes at `decode_size(size)`.
      chunk: its frames; position: its index among the clip's chunks.
      size: pixels of the dataset.
      folder: holds `TRACK` and `background.png`; `frames/`, `head/`, `torso/` and `TEXTURE` are written there.
      analysis: the clip's mask layers.
      threads: number of threads that make pictures.
    """

    source: FrameSource
    chunk: Chunk
    position: int
    size: int
    folder: Path
    analysis: Analysis
    threads: int

    @property
    def result(self) -> Path:
        """The file that is written last."""
        return self.folder / TEXTURE / f"{self.chunk.index:05d}.npz"


def decode_size(size: int) -> int:
    """Pixels at which the clip is decoded: enough for the pictures and for the skin texture."""
    return max(size, ANALYSIS_SIZE)


def make_chunk(job: PicturesJob, tick: Callable[[int], None] = lambda frames: None) -> None:
    """Makes and writes a chunk's pictures, and samples the skin texture at the estimated poses for `align_texture`.

    `tick` is called with the number of frames done since the last call.
    """
    track = read_npz(job.folder / TRACK)
    background = cv2.imread(str(job.folder / "background.png"))[..., ::-1]
    layers = job.analysis.layers(job.position)
    first = job.chunk.first

    def make(number: int, frame: np.ndarray) -> None:
        smoothed = smooth_in_time(layers, number - first + 1)
        save_pictures(job.folder, number, make_pictures(_scaled(frame, job.size), track["landmarks"][number], smoothed, background))

    def stream():
        with ThreadPoolExecutor(job.threads) as pool:
            pending: collections.deque = collections.deque()
            for number, frame in chunk_frames(job.source, job.chunk):
                pending.append(pool.submit(make, number, frame))
                if len(pending) > 2 * job.threads:
                    pending.popleft().result()
                yield _scaled(frame, ANALYSIS_SIZE)
                tick(1)
            for future in pending:
                future.result()

    span = slice(first, job.chunk.end)
    skin = Skin(track["skin_points"], track["skin_normals"])
    frames = stream()
    texture = sample_texture(frames, skin, track["rotation"][span], track["translation"][span], ANALYSIS_SIZE)
    collections.deque(frames, maxlen=0)  # runs the generator to its end, where the last pictures are waited for
    write_npz(job.result, **vars(texture))


def read_texture(path: Path) -> Texture:
    """The skin texture samples of one chunk."""
    return Texture(**read_npz(path))


def _scaled(frame: np.ndarray, size: int) -> np.ndarray:
    return frame if frame.shape[0] == size else cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA)
