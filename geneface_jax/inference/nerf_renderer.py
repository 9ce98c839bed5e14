"""A subject's vanilla NeRF as one picture per frame. Slow, and it says how slow before it begins."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.compatibility import require_same_camera
from geneface_jax.data.motion import normalize_motion, windows
from geneface_jax.data.subject import Subject
from geneface_jax.inference.controls import in_precision
from geneface_jax.inference.pictures import resize, straight_rgba
from geneface_jax.io import checkpoints
from geneface_jax.io.weights import params_fingerprint
from geneface_jax.models.nerf import NerfHead, NerfTorso
from geneface_jax.rendering.nerf import Drive, NerfPerson, RaySettings, attends

HEAD, TORSO = "nerf_head", "nerf_torso"


@dataclasses.dataclass(frozen=True)
class NerfRenderer:
    """Trained vanilla NeRF of one person.

    Attributes:
      subject: the dataset (a light one is enough).
      person: the networks.
      head_model, torso_model: their configs' `model`; no torso: None.
      attend: see `NerfHead.condition`.
    """

    subject: Subject
    person: NerfPerson
    head_model: ConfigDict
    torso_model: ConfigDict | None
    attend: bool

    @classmethod
    def load(cls, subject_dir: str | Path, *, step: int | None = None, torso: bool = True) -> NerfRenderer:
        """Reads `SUBJECT/{dataset,nerf_head,nerf_torso}`.

        Args:
          subject_dir: the subject folder.
          step: head checkpoint. When None it is the one that the torso was trained with, and without a torso the newest.
          torso: False leaves the torso out (evaluation of the head with the true torso behind it).

        Raises:
          InputError: a stage is missing, the head was trained for another camera, or the torso for another head.
        """
        folder = Path(subject_dir)
        subject = Subject.load(folder / "dataset")
        body = checkpoints.load(folder / TORSO) if torso else None
        if body is not None and step is None and body.config.data.head_step in checkpoints.steps(folder / HEAD):
            step = body.config.data.head_step
        head = checkpoints.load(folder / HEAD, step)
        require_same_camera(f"the head in {folder / HEAD}", head.config, subject)
        if body is not None and body.config.head.fingerprint not in ("", params_fingerprint(head.state["params"])):
            raise InputError(
                f"the torso in {folder / TORSO} was trained with another head (step {body.config.data.head_step}) than step {head.step} in "
                f"{folder / HEAD}; bring that head back, or train the torso again"
            )
        if body is not None and body.config.model.condition_frames > 1:
            raise InputError(
                f"the torso in {folder / TORSO} is an original, which hears DeepSpeech features that nothing here computes; train one that "
                f"follows landmarks with configs/nerf_torso.py on the head in {folder / HEAD}"
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

    def in_precision(self, precision: str) -> NerfRenderer:
        """The same person with networks kept in another dtype; see `precision.in_precision`."""
        return dataclasses.replace(self, person=dataclasses.replace(self.person, params=in_precision(self.person.params, precision)))

    def render(
        self,
        motion: np.ndarray,
        cameras: np.ndarray,
        eye_openness: np.ndarray | None = None,
        *,
        background: np.ndarray | None = None,
        torso_cameras: np.ndarray | None = None,
        end_threshold: float | None = None,
        size: int | None = None,
        samples: int | None = None,
        fine_samples: int | None = None,
        say: Callable[[str], None] = print,
        transparent: bool = False,
    ) -> Iterator[np.ndarray]:
        """Yields frames in order; one is in memory, and of its rays as many as `POINTS_PER_CHUNK` samples allow.

        Args:
          motion: [T, 68, 3] or [T, 204], not normalised.
          cameras: [T, 4, 4] camera to world (dataset convention).
          eye_openness: not looked at: these networks know of lids what the landmarks say.
          background: uint8 [H, W, 3] for all frames or [T, H, W, 3]; the subject's own when None. Without a torso network it must
            already hold the torso.
          torso_cameras: [T, 4, 4] what the torso follows where the head is seen from elsewhere (`--orbit`); `cameras` when None.
          end_threshold: not looked at: every ray takes all its samples.
          size: pixels per side to render at; the size the person was trained at when None.
          samples, fine_samples: of the coarse and the fine pass; as trained when None.
          say: is told, before the first frame, how long one takes.
          transparent: the person with an alpha channel, before no background; every frame is drawn twice for it.

        Yields:
          uint8 [size, size, 3], or [size, size, 4] RGBA (alpha not multiplied into the colours) when transparent.
        """
        del eye_openness, end_threshold
        subject = self.subject
        size = size or subject.size
        person = self.person.resampled(samples, fine_samples)
        drives = self._drives(motion, cameras, cameras if torso_cameras is None else torso_cameras)
        own = _picture(subject.background, size)
        pictures = subject.background if background is None else np.asarray(background)
        still = _picture(pictures, size) if pictures.ndim == 3 else None
        black, white = (np.full((size, size, 3), level, np.float32) for level in (0.0, 1.0))
        passes = 2 if transparent else 1
        for i, drive in enumerate(drives):
            shown = _picture(pictures[i], size) if still is None else still
            if i == 0:
                say(speed_warning(passes * seconds_per_frame(person, drive, size, own, shown), len(motion), size, person))
            if transparent:
                # What a pixel lets through of the background is how much brighter white makes it than black.
                color, over_white = (person.render(drive, size, own, shown) for shown in (black, white))
                yield straight_rgba(color, 1.0 - (over_white - color).mean(-1), size)
                continue
            yield np.round(np.clip(person.render(drive, size, own, shown), 0.0, 1.0) * 255.0).astype(np.uint8)

    def _drives(self, motion: np.ndarray, cameras: np.ndarray, body_cameras: np.ndarray) -> Iterator[Drive]:
        subject = self.subject
        normalized = normalize_motion(motion, subject.motion_mean, subject.motion_std)
        heads = windows(normalized, self.head_model.condition_window, self.head_model.condition_frames)
        model = self.torso_model or self.head_model
        torsos = windows(normalized, model.condition_window, model.condition_frames)
        attend = jnp.asarray(self.attend)
        for head, torso, camera, body in zip(heads, torsos, cameras, body_cameras, strict=True):
            parts = [jnp.asarray(part, jnp.float32) for part in (head, torso, camera, body, subject.cameras[0])]
            yield Drive(parts[0], parts[1], parts[2], parts[3], parts[4], attend)


def seconds_per_frame(person: NerfPerson, drive: Drive, size: int, own: np.ndarray, shown: np.ndarray) -> float:
    """Measures one piece of a frame, after it was compiled, and multiplies; arguments as `NerfPerson.render`."""
    pieces = person.chunks(size)
    for _ in range(2):
        began = time.perf_counter()
        person.render_chunk(drive, pieces[0], size, own, shown).block_until_ready()
        seconds = time.perf_counter() - began
    return seconds * len(pieces)


def speed_warning(seconds: float, frames: int, size: int, person: NerfPerson) -> str:
    """What the user is told before a rendering."""
    total = seconds * frames
    duration = f"{total:.0f} s" if total < 120 else f"{total / 60:.0f} min" if total < 7200 else f"{total / 3600:.1f} h"
    head = person.head_settings
    return (
        f"a vanilla NeRF is slow: about {seconds:.2g} s for a frame of {size}x{size} pixels with {head.samples} + {head.fine_samples} "
        f"samples a ray, {duration} for {frames} frames; --n-samples-per-ray and --n-samples-per-ray-fine make it quicker and rougher"
    )


def _picture(pixels: np.ndarray, size: int) -> np.ndarray:
    """float32 [size, size, 3] in [0, 1] of a uint8 picture."""
    return resize(pixels, size, size).astype(np.float32) / 255.0
