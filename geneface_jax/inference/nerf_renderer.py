"""Renderer of a person's vanilla NeRF; logs an estimate of its slow rendering time before it starts."""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.motion import normalize_motion, windows
from geneface_jax.data.subject import Subject, require_same_camera, require_same_dataset, trained_on
from geneface_jax.inference.controls import in_precision
from geneface_jax.inference.pictures import resize, straight_rgba
from geneface_jax.io import checkpoints
from geneface_jax.io.weights import params_fingerprint
from geneface_jax.models.nerf import NerfHead, NerfTorso
from geneface_jax.rendering.nerf import Drive, NerfPerson, RaySettings, attends
from geneface_jax.typing import Float, Float32, UInt8

logger = logging.getLogger(__name__)

HEAD, TORSO = "nerf_head", "nerf_torso"


@dataclasses.dataclass(frozen=True)
class NerfRenderer:
    """Trained vanilla NeRF of one person.

    Attributes:
      subject: the dataset (a light one is enough).
      person: the networks.
      head_model, torso_model: their configs' `model`; None without a torso.
      attend: see `NerfHead.condition`.
    """

    subject: Subject
    person: NerfPerson
    head_model: ConfigDict
    torso_model: ConfigDict | None
    attend: bool

    @classmethod
    def load(
        cls, subject_dir: str | Path, *, step: int | None = None, torso: bool = True, subject: Subject | None = None
    ) -> "NerfRenderer":
        """Reads `SUBJECT/{dataset,nerf_head,nerf_torso}`.

        Args:
          step: head checkpoint; if None the one that the torso was trained with, or without a torso the newest.
          torso: False omits the torso (evaluation of the head over the true torso).
          subject: the dataset if it is in memory already.

        Raises:
          InputError: a stage is missing, the head was trained for another camera, or the torso for another head.
        """
        folder = Path(subject_dir)
        subject = subject or Subject.load(folder / "dataset")
        body = checkpoints.load(folder / TORSO) if torso else None
        if body is not None and step is None and body.config.data.head_step in checkpoints.steps(folder / HEAD):
            step = body.config.data.head_step
        head = checkpoints.load(folder / HEAD, step)
        require_same_camera(f"the head in {folder / HEAD}", head.config, subject)
        if body is not None and body.config.head.fingerprint not in ("", params_fingerprint(head.state["params"])):
            raise InputError(
                f"The torso in {folder / TORSO} was trained with another head (step {body.config.data.head_step}) than step {head.step} in "
                f"{folder / HEAD}: restore that head, or train the torso again."
            )
        if body is not None:
            require_same_dataset(f"the torso in {folder / TORSO}", trained_on(body.config), subject)
        if body is not None and body.config.model.condition_frames > 1:
            raise InputError(
                f"The torso in {folder / TORSO} was imported and needs DeepSpeech features, which are not supported here: train a torso "
                f"driven by landmarks with configs/nerf_torso.py on the head in {folder / HEAD}."
            )
        began = int(head.state["start"]["began"]) if "start" in head.state else 0
        head_settings = RaySettings.from_config(head.config.rays)
        person = NerfPerson(
            head=NerfHead.from_config(head.config.model),
            torso=None if body is None else NerfTorso.from_config(body.config.model),
            params=jax.tree.map(jnp.asarray, (head.state["params"], None if body is None else body.state["params"])),
            head_settings=head_settings,
            torso_settings=head_settings if body is None else RaySettings.from_config(body.config.rays),
            intrinsics=np.asarray(subject.intrinsics),
            trained_size=subject.size,
        )
        attend = attends(head.config.model.attention_from, began, head.step)
        return cls(subject, person, head.config.model, None if body is None else body.config.model, attend)

    def in_precision(self, precision: str) -> "NerfRenderer":
        """The same person with weights in another precision; see `controls.in_precision`."""
        return dataclasses.replace(self, person=dataclasses.replace(self.person, params=in_precision(self.person.params, precision)))

    def render(
        self,
        motion: Float[np.ndarray, " T *point"],
        cameras: Float[np.ndarray, "T 4 4"],
        eye_openness: Float[np.ndarray, " T"] | None = None,
        *,
        background: UInt8[np.ndarray, "... H W 3"] | None = None,
        torso_cameras: Float[np.ndarray, "T 4 4"] | None = None,
        end_threshold: float | None = None,
        size: int | None = None,
        samples: int | None = None,
        fine_samples: int | None = None,
        log: Callable[[str], None] = logger.warning,
        transparent: bool = False,
    ) -> Iterator[np.ndarray]:
        """Yields frames in order; one is in memory, and its rays in chunks of `POINTS_PER_CHUNK` samples.

        Args:
          motion: [T, 68, 3] or [T, 204], not normalized.
          cameras: camera to world (dataset convention).
          eye_openness: unused: these networks are conditioned on the landmarks only.
          background: for all frames or one per frame; the subject's own when None. Without a torso network it must contain the torso.
          torso_cameras: poses of the torso if they differ from the head's (`--orbit`); `cameras` when None.
          end_threshold: unused: every ray takes all its samples.
          size: pixels per side to render at; as trained when None.
          samples, fine_samples: per ray of the coarse and the fine pass; as trained when None.
          log: called before the first frame with an estimate of the rendering time.
          transparent: render an alpha channel without background; every frame is rendered twice.

        Yields:
          uint8 [size, size, 3], or [size, size, 4] straight RGBA when transparent.
        """
        del eye_openness, end_threshold
        subject = self.subject
        size = size or subject.size
        person = self.person.resampled(samples, fine_samples)
        drives = self._drives(motion, cameras, cameras if torso_cameras is None else torso_cameras)
        train_background = _picture(subject.background, size)
        pictures = subject.background if background is None else np.asarray(background)
        still = _picture(pictures, size) if pictures.ndim == 3 else None
        black, white = (np.full((size, size, 3), level, np.float32) for level in (0.0, 1.0))
        passes = 2 if transparent else 1
        for i, drive in enumerate(drives):
            shown = _picture(pictures[i], size) if still is None else still
            if i == 0:
                seconds = passes * seconds_per_frame(person, drive, size, train_background, shown)
                log(speed_warning(seconds, len(motion), size, person))
            if transparent:
                # Transmittance is the difference between the renderings over white and over black.
                color, over_white = (person.render(drive, size, train_background, level) for level in (black, white))
                yield straight_rgba(color, 1.0 - (over_white - color).mean(-1), size)
                continue
            yield np.round(np.clip(person.render(drive, size, train_background, shown), 0.0, 1.0) * 255.0).astype(np.uint8)

    def _drives(
        self, motion: Float[np.ndarray, " T *point"], cameras: Float[np.ndarray, "T 4 4"], body_cameras: Float[np.ndarray, "T 4 4"]
    ) -> Iterator[Drive]:
        subject = self.subject
        normalized = normalize_motion(motion, subject.motion_mean, subject.motion_std)
        heads = windows(normalized, self.head_model.condition_window, self.head_model.condition_frames)
        model = self.torso_model or self.head_model
        torsos = windows(normalized, model.condition_window, model.condition_frames)
        attend = jnp.asarray(self.attend)
        for head, torso, camera, body in zip(heads, torsos, cameras, body_cameras, strict=True):
            parts = [jnp.asarray(part, jnp.float32) for part in (head, torso, camera, body, subject.cameras[0])]
            yield Drive(parts[0], parts[1], parts[2], parts[3], parts[4], attend)


def seconds_per_frame(
    person: NerfPerson, drive: Drive, size: int, train_background: Float32[np.ndarray, "S S 3"], background: Float32[np.ndarray, "S S 3"]
) -> float:
    """Extrapolates from one chunk of a frame, timed after compilation; arguments as `NerfPerson.render`."""
    chunks = person.chunks(size)
    for _ in range(2):
        began = time.perf_counter()
        person.render_chunk(drive, chunks[0], size, train_background, background).block_until_ready()
        seconds = time.perf_counter() - began
    return seconds * len(chunks)


def speed_warning(seconds: float, frames: int, size: int, person: NerfPerson) -> str:
    """The warning logged before rendering, from the time per frame."""
    total = seconds * frames
    duration = f"{total:.0f} s" if total < 120 else f"{total / 60:.0f} min" if total < 7200 else f"{total / 3600:.1f} h"
    head = person.head_settings
    return (
        f"The vanilla NeRF is slow: about {seconds:.2g} s for a frame of {size}x{size} pixels with {head.samples} + {head.fine_samples} "
        f"samples per ray, {duration} for {frames} frames: lower --n-samples-per-ray and --n-samples-per-ray-fine for speed."
    )


def _picture(pixels: UInt8[np.ndarray, "H W 3"], size: int) -> Float32[np.ndarray, "S S 3"]:
    """The picture at `size`, in [0, 1]."""
    return resize(pixels, size, size).astype(np.float32) / 255.0
