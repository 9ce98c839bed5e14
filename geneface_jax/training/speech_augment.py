"""Audio augmentation, so that networks trained on few or synthetic voices generalize to real voices and rooms.

Works on `model_audio` windows: of mel [A, 82] (80 normalized bands, f0, voiced), with units of decades of magnitude (1 = 20 dB) before the
normalization's scale; or of a speech network [A, C], with noise and masks only. Pure functions of an rng; vmapped over a batch.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from geneface_jax.data.speech_batches import DEPTH, HEADROOM, MEL_OFFSET, MEL_SCALE, MODEL_CHANNELS, N_MELS

MEL_LOW_HZ, MEL_HIGH_HZ = 80.0, 7600.0


def _hz_to_mel(hz: np.ndarray | jax.Array) -> jax.Array:
    """The Slaney mel scale of the features: linear to 1 kHz, logarithmic above."""
    return jnp.where(hz < 1000.0, 3.0 * hz / 200.0, 15.0 + 27.0 * jnp.log(jnp.maximum(hz, 1.0) / 1000.0) / np.log(6.4))


def _mel_to_hz(mel: jax.Array) -> jax.Array:
    return jnp.where(mel < 15.0, 200.0 * mel / 3.0, 1000.0 * jnp.exp((mel - 15.0) * np.log(6.4) / 27.0))


def warp_frequency(mel: jax.Array, factor: jax.Array) -> jax.Array:
    """Scales the frequency axis of [A, 80] bands: f Hz goes to factor * f (another vocal-tract length)."""
    low, high = _hz_to_mel(jnp.float32(MEL_LOW_HZ)), _hz_to_mel(jnp.float32(MEL_HIGH_HZ))
    step = (high - low) / (N_MELS + 1)
    centers = _mel_to_hz(low + step * jnp.arange(1, N_MELS + 1))
    source = jnp.clip((_hz_to_mel(centers / factor) - low) / step - 1.0, 0.0, N_MELS - 1.0)
    # A matrix product with triangular weights: a gather per band would be slower.
    weights = jnp.maximum(0.0, 1.0 - jnp.abs(jnp.arange(N_MELS)[:, None] - source[None, :]))
    return mel @ weights


def _band_mask(rng: jax.Array, length: int, widest: int, probability: float) -> jax.Array:
    """[length] of 0/1, with `probability` zero on one random range of up to `widest`."""
    rng_width, rng_start, rng_use = jax.random.split(rng, 3)
    width = jax.random.randint(rng_width, (), 1, widest + 1)
    start = jax.random.randint(rng_start, (), 0, length)
    position = jnp.arange(length)
    masked = (position >= start) & (position < start + width) & (jax.random.uniform(rng_use) < probability)
    return 1.0 - masked.astype(jnp.float32)


def augment(rng: jax.Array, audio: jax.Array, strength: Mapping[str, float]) -> jax.Array:
    """Augments one window.

    Args:
      rng: key.
      audio: [A, 82] model audio.
      strength: largest values: `gain` (decades), `tilt` and `ripple` (decades over the band axis), `noise` (highest noise floor, decades
        relative to the clip's level), `warp` (vocal-tract factor 1 +- warp), `pitch` (units of the f0 channel), `frequency_mask` (bands),
        `time_mask` (audio frames), `unvoice` (probability that f0 is removed). 0 switches a part off.

    Returns:
      [A, 82].
    """
    keys = jax.random.split(rng, 10)

    def symmetric(key: jax.Array, bound: float, shape: tuple[int, ...] = ()) -> jax.Array:
        return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

    mel = audio[:, :N_MELS] * MEL_SCALE - MEL_OFFSET
    mel = warp_frequency(mel, 1.0 + symmetric(keys[0], strength["warp"]))
    axis = jnp.linspace(-1.0, 1.0, N_MELS)
    orders = jnp.arange(1, 6)[:, None]
    ripple = symmetric(keys[1], strength["ripple"], (5, 1)) * jnp.cos(jnp.pi * orders * (axis[None, :] + 1.0) / 2.0) / jnp.sqrt(orders)
    mel = mel + symmetric(keys[2], strength["gain"]) + symmetric(keys[3], strength["tilt"]) * axis + ripple.sum(0)
    if strength["noise"] > -DEPTH:
        floor = jax.random.uniform(keys[4], minval=-DEPTH, maxval=strength["noise"]) + symmetric(keys[5], 0.3) * axis
        noise = floor + 0.15 * jax.random.normal(keys[6], mel.shape)
        mel = 0.5 * jnp.log10(jnp.square(10.0**mel) + jnp.square(10.0**noise))
    mel = jnp.clip(mel, -DEPTH, HEADROOM)
    if strength["frequency_mask"]:
        keep = _band_mask(keys[7], N_MELS, int(strength["frequency_mask"]), 0.5)[None, :]
        mel = jnp.where(keep > 0, mel, -DEPTH)
    if strength["time_mask"]:
        keep = _band_mask(keys[8], mel.shape[0], int(strength["time_mask"]), 0.3)[:, None]
        mel = jnp.where(keep > 0, mel, -DEPTH)
    pitch_rng, hide_rng = jax.random.split(keys[9])
    pitch, voiced = audio[:, N_MELS], audio[:, N_MELS + 1]
    voiced = voiced * (jax.random.uniform(hide_rng) >= strength["unvoice"]).astype(audio.dtype)
    pitch = (pitch + symmetric(pitch_rng, strength["pitch"])) * voiced
    return jnp.concatenate([(mel + MEL_OFFSET) / MEL_SCALE, pitch[:, None], voiced[:, None]], axis=-1)


def augment_batch(rng: jax.Array, indices: jax.Array, audio: jax.Array, strength: Mapping[str, float]) -> jax.Array:
    """Augments [B, A, C]; the draws of item i depend on (rng, indices[i]), its index in the global batch."""
    keys = jax.vmap(lambda index: jax.random.fold_in(rng, index))(indices)
    change = augment if audio.shape[-1] == MODEL_CHANNELS else augment_features
    return jax.vmap(lambda key, window: change(key, window, strength))(keys, audio)


def augment_features(rng: jax.Array, audio: jax.Array, strength: Mapping[str, float]) -> jax.Array:
    """Augments one window [A, C] of a speech network's features, whose channels mean nothing by themselves.

    Args:
      rng: key.
      audio: features.
      strength: `channel_mask` (largest share of the channels that are set to 0 in the whole window; the others grow by as much),
        `feature_noise` (largest noise, in standard deviations of a channel over the window, the same for all frames of the window and once
        more as large for each), `time_mask` (audio frames that may be set to the window's mean). Absent or 0 switches a part off.
    """
    rng_size, rng_window, rng_frames, rng_mask, rng_share, rng_channels = jax.random.split(rng, 6)
    share = jax.random.uniform(rng_share) * strength.get("channel_mask", 0.0)
    audio = audio * (jax.random.uniform(rng_channels, audio.shape[1:]) >= share) / (1.0 - share)
    mean, spread = jnp.mean(audio, axis=0), jnp.std(audio, axis=0)
    size = jax.random.uniform(rng_size) * strength.get("feature_noise", 0.0)
    noise = jax.random.normal(rng_window, mean.shape) + jax.random.normal(rng_frames, audio.shape)
    changed = audio + size * spread * noise
    if strength["time_mask"]:
        keep = _band_mask(rng_mask, len(audio), int(strength["time_mask"]), 0.3)[:, None]
        changed = jnp.where(keep > 0, changed, mean)
    return changed


def augment_f0(rng: jax.Array, f0: jax.Array, strength: Mapping[str, float]) -> jax.Array:
    """Shifts the pitch of a window [A] (Hz, 0 = unvoiced) by up to `f0` octaves, and removes it with the probability `unvoice`.

    An octave turns a deep voice into a high one: with few speakers pitch must not identify the speaker, and so their way of moving.
    """
    rng_shift, rng_hide = jax.random.split(rng)
    shift = jax.random.uniform(rng_shift, minval=-strength["f0"], maxval=strength["f0"])
    return f0 * 2.0**shift * (jax.random.uniform(rng_hide) >= strength["unvoice"])


def augment_windows(
    rng: jax.Array, indices: jax.Array, batch: Mapping[str, jax.Array], strength: Mapping[str, float]
) -> dict[str, jax.Array]:
    """Augments `audio` of a batch of windows (`data.speech_batches`), and `f0` if `strength` has that key."""
    augmented = {"audio": augment_batch(rng, indices, batch["audio"], strength)}
    if "f0" in strength:
        keys = jax.vmap(lambda index: jax.random.fold_in(jax.random.fold_in(rng, index), 1))(indices)
        augmented["f0"] = jax.vmap(lambda key, window: augment_f0(key, window, strength))(keys, batch["f0"])
    return {**batch, **augmented}
