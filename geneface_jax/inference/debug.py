"""Everything between the recording and the video, as files to look at: `geneface infer --debug DIR`."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from data_tools.audio.features import FPS
from data_tools.audio.load import save_wav
from data_tools.io import write_folder, write_json
from data_tools.video.write import write_video
from geneface_jax.inference import provenance
from geneface_jax.inference.audio_features import audio_features_of
from geneface_jax.inference.controls import Controls
from geneface_jax.inference.pipeline import OpenPerson, Script
from geneface_jax.inference.silence import loudness, silence_weight
from geneface_jax.rendering.landmark_video import landmark_frames

ARRAYS, LANDMARKS, SOUND, SETTINGS = "script.npz", "landmarks.mp4", "audio.wav", "settings.json"


def write_intermediates(
    folder: str | os.PathLike[str], person: OpenPerson, samples: np.ndarray, script: Script, controls: Controls
) -> Path:
    """Writes what inference knew before it drew the first frame; an earlier folder is replaced whole.

    `audio.wav`: the recording as it was heard, 16 kHz mono. `landmarks.mp4`: the landmarks as predicted, as drawn, and the person's own
    video. `settings.json`: every control, the networks, their hash. `script.npz`, float32 over T frames: `audio_features` [2T, C],
    `f0` [2T], `predicted` [T, 204] (the networks' motion), `motion` [T, 68, 3] (as drawn), `eye_openness` [T], `cameras`, `head_cameras`
    [T, 4, 4], `loudness` [T] dB, `silence` [T] (weight of the shut mouth).

    Args:
      folder: to make.
      person, samples, script, controls: as `pipeline.direct` got and gave them.
    """
    subject = person.subject
    features, f0 = audio_features_of(subject.meta, f"the dataset of {person.parts.folder}").compute(samples, script.frames)
    level = loudness(samples, script.frames)
    arrays = {
        "audio_features": features,
        "f0": f0,
        "predicted": script.predicted,
        "motion": script.motion,
        "eye_openness": script.eye_openness,
        "cameras": script.cameras,
        "head_cameras": script.head_cameras,
        "loudness": level,
        "silence": silence_weight(level, controls.silence_db),
    }
    own = np.resize(subject.motion, (script.frames, 68, 3))
    origin = provenance.provenance_of(person.parts, subject.meta)

    def fill(temporary: Path) -> None:
        save_wav(temporary / SOUND, samples)
        np.savez(temporary / ARRAYS, **{name: np.asarray(array, np.float32) for name, array in arrays.items()})
        panels = landmark_frames([script.predicted, script.motion, own], ["network", "drawn", "training video"], subject.mean_face)
        write_video(temporary / LANDMARKS, panels, samples, FPS)
        networks = f"{person.parts.speech}, {person.parts}"
        write_json(
            temporary / SETTINGS, {"controls": dataclasses.asdict(controls), "networks": networks, "provenance": dataclasses.asdict(origin)}
        )

    return write_folder(folder, fill)
