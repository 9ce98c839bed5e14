"""The one pass of the two networks over the cropped clip: landmarks, person confidence, and the background on the way."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from data_tools.background.plate import BackgroundPlate
from data_tools.face.track import detect
from data_tools.segmentation.selfie import NETWORK_SIZE, SelfieSegmenter
from data_tools.video.read import FPS, Box, frames

ANALYSIS_SIZE = 512
"""Pixels of the picture the landmarker sees, whatever the dataset's size: fewer cost precision."""

PLATE_FRAMES = 80
"""How many frames, spread over the clip, the background is gathered from."""


def analyse(path: Path, box: Box, trim, size: int, n_frames: int, progress=iter) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs landmarker and segmenter over a clip.

    Args:
      path: the video.
      box: the crop.
      trim: seconds [a, b), or None.
      size: pixels of the dataset.
      n_frames: expected number of frames; at most this many are read.
      progress: wraps the iterator of frames.

    Returns:
      landmarks: [T, 478, 3] float32, pixels of the size x size crop; NaN where no face was found.
      confidence: [T, 256, 256] uint8, 255 = person.
      background: [size, size, 3] uint8.
    """
    plate = BackgroundPlate(size)
    every = max(n_frames // PLATE_FRAMES, 1)
    waiting: list[Future] = []
    masks = np.zeros((n_frames, NETWORK_SIZE, NETWORK_SIZE), np.uint8)

    def look(frame: np.ndarray, index: int) -> None:
        confidence = segmenter(cv2.resize(frame, (NETWORK_SIZE, NETWORK_SIZE), interpolation=cv2.INTER_AREA))
        if index % every == 0:
            picture = cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA)
            plate.add(picture, cv2.resize(confidence, (size, size), interpolation=cv2.INTER_LINEAR))
        masks[index] = np.round(confidence * 255.0)

    # One thread segments while this one finds landmarks: both networks run outside the interpreter lock.
    with SelfieSegmenter() as segmenter, ThreadPoolExecutor(1) as pool:

        def stream():
            for index, frame in enumerate(frames(path, (ANALYSIS_SIZE, ANALYSIS_SIZE), crop=box, trim=trim)):
                if index == n_frames:
                    return
                waiting.append(pool.submit(look, frame, index))
                if index >= 8:
                    waiting[index - 8].result()
                yield frame

        track = detect(progress(stream()), FPS)
        for job in waiting:
            job.result()
    return track.landmarks * np.float32(size), masks[: len(waiting)], plate.finish()
