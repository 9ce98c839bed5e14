"""Avatar clips and the avatar corpus on disk: the video with its exact truth, and motion with audio features of many speakers."""

import contextlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np

from data_tools.audio.sound import FPS, MEL_F0, AudioFeatures, save_wav
from data_tools.avatar.performance import Performance, eye_openness, mouth_opening, perform
from data_tools.avatar.render import Renderer, camera_matrices, head_to_camera, intrinsics, project
from data_tools.avatar.speakers import SpeechClip, excerpt, recording, sentence_clips, voices
from data_tools.errors import InputError
from data_tools.ffmpeg import Process, file_argument
from data_tools.io import atomic_folder, require_output
from data_tools.landmarks68 import LANDMARKS_68

# -------- Clip folder: encoded video and ground truth

CRF, AUDIO_BITRATE = 12, "160k"
"""Nearly lossless, so that errors measured later are the model's."""

PARTS = ("train", "heldout", "unseen")


def render_clip(
    out: str | os.PathLike,
    speaker: str = "demo",
    part: str = "train",
    size: int = 512,
    seconds: float | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Renders a speaker's recording to the new folder `out`.

    The folder holds `video.mp4` (H.264, AAC, 25 fps), `truth.npz` (arrays of `truth_arrays`), `head/%06d.png` (true soft head masks,
    uint8), `background.png`, `audio.wav` (the clean driving audio) and `phonemes.json` (list of [start s, end s, IPA]).

    Args:
      out: folder to create; it must not exist or be empty.
      speaker: a name of `speech.voices()`.
      part: "train", the speaker's recording. The demo person also has "heldout" (one sentence) and "unseen" (twenty more); neither
        occurs in training.
      size: side of the square picture in pixels; even, 64 to 2048.
      seconds: length to render; None renders the complete recording.
      seed: random seed of head movement, blinks and brows.
      progress: called with (frames done, total frames).

    Raises:
      InputError: unknown speaker or part, a bad size or length, or `out` is not empty.
    """
    out = Path(out)
    _require_empty(out)
    performance = perform(_speech_clip(speaker, part, seconds), seed)
    if size % 2 or not 64 <= size <= 2048:
        raise InputError(f"The picture size {size} is not supported: choose an even number from 64 to 2048.")
    with atomic_folder(out, replace=False) as temporary:
        _write(temporary, performance, size, progress)
    return out


def _require_empty(out: Path) -> None:
    require_output(out, folder=True, replaced=True)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty: remove it or name another folder.")


def truth_arrays(performance: Performance, size: int) -> dict[str, np.ndarray]:
    """Ground truth of every frame, float32.

    Returns:
      motion [T, 68, 3] (see docs/file-formats.md), landmarks_2d [T, 68, 2] and mesh_2d [T, 468, 2] pixels, cameras [T, 4, 4],
      intrinsics [4] (fx, fy, cx, cy), eye_openness [T], mouth_opening [T] (inner-lip gap / mouth width, in the canonical frame),
      mouth [T, 8] (`speech.PARAMETERS`), angles [T, 3] radians (yaw, pitch, roll), blink [T] 0..1.
    """
    rotations, translations = head_to_camera(performance.head_motion)
    vertices = performance.vertices.astype(np.float64)
    mesh_2d = project(np.einsum("tij,tvj->tvi", rotations, vertices) + translations[:, None], size)
    landmarks = vertices[:, LANDMARKS_68]
    arrays = {
        "motion": performance.motion,
        "landmarks_2d": mesh_2d[:, LANDMARKS_68],
        "mesh_2d": mesh_2d,
        "cameras": camera_matrices(performance.head_motion),
        "intrinsics": np.array(list(intrinsics(size).values())),
        "eye_openness": eye_openness(landmarks),
        "mouth_opening": mouth_opening(landmarks),
        "mouth": performance.mouth,
        "angles": performance.head_motion.angles,
        "blink": performance.head_motion.blink,
    }
    return {name: np.asarray(value, np.float32) for name, value in arrays.items()}


def _speech_clip(speaker: str, part: str, seconds: float | None) -> SpeechClip:
    if part not in PARTS:
        raise InputError(f"The avatar has no part {part!r}: choose one of {', '.join(PARTS)}.")
    clip = recording(speaker if part == "train" else f"{speaker}_{part}")
    if seconds is None:
        return clip
    if seconds < 1.0 / FPS:
        raise InputError(f"A clip of {seconds:g} s has no frame: give at least {1.0 / FPS:g} s.")
    return excerpt(clip, 0.0, seconds)


def _write(folder: Path, performance: Performance, size: int, progress: Callable[[int, int], None]) -> None:
    clip = performance.clip
    renderer = Renderer(performance.speaker, size)
    save_wav(folder / "audio.wav", clip.samples)
    (folder / "head").mkdir()

    def images() -> Iterable[np.ndarray]:
        for i, (image, mask) in enumerate(renderer.frames(performance)):
            _write_png(folder / "head" / f"{i:06d}.png", mask)
            progress(i + 1, clip.n_frames)
            yield image

    _encode(folder / "video.mp4", images(), folder / "audio.wav", size)
    np.savez_compressed(folder / "truth.npz", **truth_arrays(performance, size))
    _write_png(folder / "background.png", renderer.background[..., ::-1])
    phonemes = [[round(p.start, 4), round(p.end, 4), p.ipa] for p in clip.phonemes]
    (folder / "phonemes.json").write_text(json.dumps(phonemes, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_png(path: Path, picture: np.ndarray) -> None:
    """Writes a picture, gray or BGR; `cv2.imwrite` would say nothing of a full disk."""
    path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())


def _encode(path: Path, images: Iterable[np.ndarray], wav: Path, size: int) -> None:
    """Pipes RGB frames to ffmpeg; the audio is as long as the video."""
    command = [
        "-y",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-s",
        f"{size}x{size}",
        "-r",
        str(FPS),
        "-i",
        "pipe:0",
        "-i",
        file_argument(wav),
    ]
    command += ["-c:v", "libx264", "-crf", str(CRF), "-preset", "veryfast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", AUDIO_BITRATE]
    command += ["-map", "0:v:0", "-map", "1:a:0", "-movflags", "+faststart", file_argument(path)]
    with Process(command, feed=True) as process:
        with contextlib.suppress(BrokenPipeError):  # ffmpeg stopped; its messages are reported below
            for image in images:
                process.write(image.tobytes())
        if not process.finish():
            raise RuntimeError(f"ffmpeg could not write {path.name}: {process.complaint()}")


# -------- Corpus folder: true motion and audio features of many speakers (format: docs/file-formats.md)


def make_corpus(out: str | os.PathLike, seed: int = 0, sentences: int | None = None, features: AudioFeatures = MEL_F0) -> dict:
    """Writes the corpus folder: one clip per sentence, two complete speakers in "val"; nothing is rendered.

    Args:
      out: folder to create; it must not exist or be empty.
      seed: random seed of head movement, blinks and brows.
      sentences: sentences per speaker, from the first; None takes all. PostNet needs variety, not volume.
      features: the audio features; other than mel_f0 they need code of their own (see `geneface_jax.inference.audio_features`).

    Returns:
      The content of `meta.json`.

    Raises:
      InputError: `out` is not empty.
    """
    out = Path(out)
    _require_empty(out)
    arrays: dict[str, np.ndarray] = {}
    clips = []
    for speaker, split in voices().items():
        if split not in ("train", "val"):
            continue
        for clip in sentence_clips(speaker)[:sentences]:
            heard, f0 = features.compute(clip.samples, clip.n_frames)
            arrays[f"{clip.name}/audio_features"] = heard.astype(np.float16)
            arrays[f"{clip.name}/f0"] = f0.astype(np.float16)
            arrays[f"{clip.name}/motion"] = perform(clip, seed).motion.reshape(-1, 204).astype(np.float16)
            clips.append({"name": clip.name, "speaker": speaker, "n_frames": clip.n_frames, "split": split})
    meta = {"format": "geneface_jax.corpus", "format_version": 1, "face_model": "mediapipe", "audio_model": features.name}
    meta |= {**({"audio_weights": features.weights} if features.weights else {}), "clips": clips}
    with atomic_folder(out, replace=False) as temporary:
        np.savez_compressed(temporary / "clips.npz", **arrays)
        (temporary / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
    return meta
