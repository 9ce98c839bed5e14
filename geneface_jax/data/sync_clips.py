"""Clips for SyncNet: five landmark frames of the mouth with the ten audio frames they belong to, or with wrong ones."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from geneface_jax.data.network_space import MOUTH, Pair
from geneface_jax.models.syncnet import AUDIO_FRAMES, MOUTH_FRAMES

# How a wrong audio clip is found (GeneFace): in another clip of the corpus, elsewhere in the same clip, or just beside the right place.
OTHER_CLIP, SAME_CLIP = 0.25, 0.375
NEAR = range(2, 6)


def draw_sync_pairs(rng: np.random.Generator, pairs: Sequence[Pair], n: int) -> dict[str, np.ndarray]:
    """Draws n clip pairs, half of them in sync.

    A negative comes with probability 0.25 from another clip (GeneFace meant to, but read the audio of the same clip at the other one's
    position), 0.375 from elsewhere in the same clip, 0.375 from 2 to 5 frames beside. All starts up to the last are used.

    Args:
      rng: generator.
      pairs: at least two clips of >= 5 frames; longer ones are drawn more often.
      n: number of clip pairs.

    Returns:
      audio [n, 10, C], mouth [n, 5, 60], label [n] (1 = in sync); float32.
    """
    usable = [pair for pair in pairs if pair.n_frames >= 2 * MOUTH_FRAMES]
    starts = np.array([pair.n_frames - MOUTH_FRAMES + 1 for pair in usable])
    which = rng.choice(len(usable), size=n, p=starts / starts.sum())
    audio, mouth = [], []
    label = (rng.random(n) < 0.5).astype(np.float32)
    for i, positive in zip(which, label, strict=True):
        start = int(rng.integers(starts[i]))
        source, at = (i, start) if positive else _wrong_audio(rng, starts, int(i), start)
        mouth.append(usable[i].motion[start : start + MOUTH_FRAMES, MOUTH])
        audio.append(usable[source].audio[2 * at : 2 * at + AUDIO_FRAMES])
    return {"audio": np.stack(audio), "mouth": np.stack(mouth), "label": label}


def _wrong_audio(rng: np.random.Generator, starts: np.ndarray, item: int, start: int) -> tuple[int, int]:
    """(clip, start) of an audio clip that doesn't belong to `start` of `item`."""
    kind = rng.random()
    if kind < OTHER_CLIP and len(starts) > 1:
        other = (item + 1 + int(rng.integers(len(starts) - 1))) % len(starts)
        return other, int(rng.integers(starts[other]))
    if kind < OTHER_CLIP + SAME_CLIP:
        return item, (start + 1 + int(rng.integers(starts[item] - 1))) % int(starts[item])
    near = [start + side * step for step in NEAR for side in (-1, 1) if 0 <= start + side * step < starts[item]]
    return item, int(rng.choice(near))


def positive_clips(
    rng: jax.Array, indices: jax.Array, audio: jax.Array, motion: jax.Array, mask: jax.Array, per_item: int
) -> tuple[jax.Array, jax.Array]:
    """Draws in-sync clips out of a batch of sequences, differentiable in the motion.

    Args:
      rng: key. indices: [B] numbers of the items in the global batch (the draw of an item depends on nothing else).
      audio: [B, 2T, C]. motion: [B, T, 204]. mask: [B, T] of 0/1, padding at the end, at least 5 frames true.
      per_item: clips from each item.

    Returns:
      audio clips [B * per_item, 10, C], mouth clips [B * per_item, 5, 60].
    """

    def of_item(index, item_audio, item_motion, item_mask):
        places = jnp.maximum(jnp.sum(item_mask).astype(jnp.int32) - MOUTH_FRAMES + 1, 1)
        starts = jax.random.randint(jax.random.fold_in(rng, index), (per_item,), 0, places)
        return clips_at(item_audio, item_motion, starts)

    audio_clips, mouth_clips = jax.vmap(of_item)(indices, audio, motion, mask)
    return audio_clips.reshape(-1, *audio_clips.shape[2:]), mouth_clips.reshape(-1, *mouth_clips.shape[2:])


def clips_at(audio: jax.Array, motion: jax.Array, starts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Clips of one sequence at video frames `starts` [N]: audio [N, 10, C] and mouth [N, 5, 60]."""
    audio_clips = audio[2 * starts[:, None] + jnp.arange(AUDIO_FRAMES)]
    mouth_clips = motion[starts[:, None] + jnp.arange(MOUTH_FRAMES), MOUTH]
    return audio_clips, mouth_clips
