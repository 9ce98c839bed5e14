"""Conversion rules: PyTorch layers to Flax layout, key matching, sizes and hyperparameters of the originals, writing work folders."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from data_tools.errors import InputError
from data_tools.io import write_folder
from geneface_jax.convert.torch_checkpoint import TorchCheckpoint, number
from geneface_jax.io import checkpoints, configs

# ----------------------------------------------------------------------------------------------------
# PyTorch layers in Flax layout, by rules: which module of theirs becomes which module of ours, and what kind of layer it is.

_BATCH_NORM = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}


class Rule(NamedTuple):
    """One kind of module.

    Attributes:
      pattern: regular expression of the module's path in a state_dict (without the last name).
      kind: "dense" [O, I]; "conv" [O, I, K]; "transposed" [I, O, K]; "middle_tap": a convolution of width 3 that only ever saw sequences of
        length 1, a dense layer for us; "norm": batch norm; "embedding": [rows, C] under our name as it is.
      target: our module path, parts separated by "/", with groups of the pattern.
    """

    pattern: str
    kind: str
    target: str


def convert(weights: Mapping[str, np.ndarray], rules: Sequence[Rule], values: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Builds {"params", "batch_stats"} from a state_dict.

    Args:
      weights: name -> array; batch-norm counters are left out.
      rules: for every module.
      values: whole name -> our path, for parameters that are taken as they are.

    Raises:
      InputError: a name that no rule knows.
    """
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    unknown = []
    for key, value in weights.items():
        if key.endswith("num_batches_tracked"):
            continue
        value = np.asarray(value, np.float32)
        if values and key in values:
            put(variables["params"], values[key], value)
            continue
        prefix, _, leaf = key.rpartition(".")
        found = next(((match, rule) for rule in rules if (match := re.fullmatch(rule.pattern, prefix))), None)
        if found is None:
            unknown.append(key)
            continue
        match, rule = found
        collection, name, array = _layer(rule.kind, leaf, value)
        put(variables[collection], f"{match.expand(rule.target)}/{name}", array)
    if unknown:
        raise InputError(
            f"the checkpoint has names that this model does not know: {', '.join(sorted(unknown))}; is it one of another model?"
        )
    return variables


def put(tree: dict[str, Any], path: str, value: np.ndarray) -> None:
    """Sets a leaf of a nested dict; parts of the path are separated by "/"."""
    *parents, last = path.split("/")
    for name in parents:
        tree = tree.setdefault(name, {})
    tree[last] = value


def _layer(kind: str, leaf: str, value: np.ndarray) -> tuple[str, str, np.ndarray]:
    """(collection, name, array in our layout) of one tensor."""
    if kind == "norm":
        return *_BATCH_NORM[leaf], value
    if leaf == "bias":
        return "params", "bias", value
    if leaf == "weight_g":
        return "params", "scale", value.reshape(-1)
    name = "direction" if leaf == "weight_v" else "kernel"
    if kind == "embedding":
        return "params", "embedding", value
    if kind == "dense":
        return "params", name, value.T
    if kind == "middle_tap":
        return "params", name, value[:, :, value.shape[2] // 2].T
    return "params", name, value.transpose((0, 2, 1) if kind == "transposed" else (2, 1, 0))


def check_shapes(found: Mapping[str, Any], expected: Mapping[str, Any], what: str) -> None:
    """Compares a converted tree with the model's own (arrays or shapes).

    Raises:
      InputError: leaves that are missing, left over or of another shape, all of them named.
    """
    ours, theirs = flat_shapes(expected), flat_shapes(found)
    problems = [f"{name} is missing" for name in sorted(ours.keys() - theirs.keys())]
    problems += [f"{name} is not part of this model" for name in sorted(theirs.keys() - ours.keys())]
    problems += [f"{k} is {theirs[k]}, the model has {ours[k]}" for k in sorted(ours.keys() & theirs.keys()) if ours[k] != theirs[k]]
    if problems:
        raise InputError(f"{what} does not fit the model: {'; '.join(problems)}")


def flat_shapes(tree: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Path -> shape of every leaf of a nested dict."""
    return {path: tuple(np.shape(leaf)) for path, leaf in flat_leaves(tree).items()}


def flat_leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Path -> leaf of a nested dict; parts of a path are separated by "/"."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= flat_leaves(value, f"{prefix}{name}/")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


# ----------------------------------------------------------------------------------------------------
# Fitting a state_dict into one of our networks, key by key, so that everything that is wrong with it can be told at once.

Converter = Callable[[Mapping[str, np.ndarray]], dict[str, Any]]
"""state_dict -> {"params", "batch_stats"}, as the functions of `convert.speech`; works for any part of a state_dict."""


def match(weights: Mapping[str, np.ndarray], converter: Converter, expected: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Converts a state_dict and compares it with the network it is for.

    Args:
      weights: the original's names -> arrays.
      converter: of this network.
      expected: the network's own variables, arrays or shapes.

    Returns:
      (variables, problems): the collections that are not empty, and a phrase for every key that is unknown, missing (under our name) or of
      another shape. The variables are only of use when there are no problems.
    """
    shapes = flat_shapes(expected)
    variables: dict[str, Any] = {}
    problems, seen = [], set()
    for key, value in weights.items():
        try:
            leaves = flat_leaves(converter({key: value}))
        except InputError:
            problems.append(f"{key} is unknown")
            continue
        except (ValueError, IndexError):
            problems.append(f"{key} is {_times(value.shape)}, which no layer of its kind is")
            continue
        for path, array in leaves.items():
            if path not in shapes:
                problems.append(f"{key} is not part of this model")
            elif array.shape != shapes[path]:
                problems.append(f"{key} is {_times(value.shape)}: {path} is {_times(shapes[path])}, not {_times(array.shape)}")
            seen.add(path)
            put(variables, path, array)
    problems += [f"{path} is missing" for path in shapes if path not in seen]
    return variables, problems


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"


# ----------------------------------------------------------------------------------------------------
# The sizes of an original network, read off the shapes of its weights: what it changes in the model part of our reference configs.
#
# A size whose weight is missing is left out, so that the reference's holds and the comparison with the model names the weight.

Weights = Mapping[str, np.ndarray]


def syncnet_sizes(weights: Weights) -> dict[str, Any]:
    """LandmarkHubertSyncNet -> `model` of configs/syncnet.py."""
    return _known(base=_size(weights, "hubert_encoder.1.conv_block.0.weight", 0))


def audio2motion_sizes(weights: Weights) -> dict[str, Any]:
    """VAEModel or PitchContourVAEModel -> `model` of configs/audio2motion.py. The originals keep every second audio frame.

    GeneFace's pitch variant is told from GeneFace++'s by the projection that only the latter has; it always hears blinks.
    """
    condition = _known(condition=_size(weights, "mel_encoder.3.weight", 0), pitch=_size(weights, "pitch_encoder.3.weight", 0))
    heard = {"blink": "cond_proj.weight", "mouth_amp": "mouth_amp_embed", "eye_amp": "eye_amp_embed"}
    return {**autoencoder_sizes(weights), **condition, **{name: key in weights for name, key in heard.items()}, "pairing": "even"}


def autoencoder_sizes(weights: Weights) -> dict[str, Any]:
    """The sizes that every audio2motion VAE has, whatever it makes its condition of."""
    flow = "vae.prior_flow.flows"
    return _known(
        motion_dim=_size(weights, "vae.decoder.out_proj.weight", 0),
        hidden=_size(weights, "vae.encoder.pre_net.0.weight", 0),
        kernel_size=_size(weights, "vae.encoder.wn.in_layers.0.weight_v", 2),
        encoder_layers=_count(weights, r"vae\.encoder\.wn\.in_layers\.\d+\.weight_v"),
        decoder_layers=_count(weights, r"vae\.decoder\.wn\.in_layers\.\d+\.weight_v"),
        latent=_size(weights, "vae.encoder.out_proj.weight", 0) // 2,
        flow_blocks=_count(weights, r"vae\.prior_flow\.flows\.\d+\.pre\.weight"),
        flow_hidden=_size(weights, f"{flow}.0.pre.weight", 0),
        flow_layers=_count(weights, r"vae\.prior_flow\.flows\.0\.enc\.in_layers\.\d+\.weight_v"),
        flow_kernel_size=_size(weights, f"{flow}.0.enc.in_layers.0.weight_v", 2),
    )


def postnet_sizes(weights: Weights) -> dict[str, Any]:
    """CNNPostNet -> `model` of configs/postnet.py; the original starts its residual at random (`zero_init`)."""
    return {**_known(base=_size(weights, "block1.0.conv_block.0.weight", 0)), "zero_init": False}


def _known(**sizes: int) -> dict[str, int]:
    return {name: size for name, size in sizes.items() if size > 0}


def _size(weights: Weights, name: str, axis: int) -> int:
    """Length of an axis; 0 when the weight is missing or has too few axes."""
    shape = np.shape(weights[name]) if name in weights else ()
    return shape[axis] if axis < len(shape) else 0


def _count(weights: Weights, pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in weights)


# ----------------------------------------------------------------------------------------------------
# The settings in an original's config.yaml that our configs have too.

# Their name -> ours, for every stage; a name that a stage's config lacks is none of its settings.
_SAME = {
    "max_updates": "train.steps",
    "seed": "seed",
    "lambda_kl": "loss.kl",
    "lambda_sync": "loss.sync",
    "lambda_mse": "loss.mse",
    "postnet_lambda_mse": "loss.mse",
    "postnet_lambda_adv": "loss.adv",
    "postnet_lambda_sync": "loss.sync",
    "postnet_disc_lr": "optimizer.discriminator.lr",
}


def apply_hparams(config: ConfigDict, checkpoint: TorchCheckpoint) -> None:
    """Writes the settings that `config` has to it, and to `source` where the weights came from.

    A setting keeps our type (PyYAML takes 1e-8 for text). PostNet's generator ran at `lr`, whatever `postnet_lr` says, and so do we.
    """
    stage = config.stage
    table = {**_SAME, "lr": "optimizer.postnet.lr" if stage == "postnet" else "optimizer.lr"}
    for theirs, ours in table.items():
        value = number(checkpoint.hparams, theirs)
        if value is None or (stage == "postnet") != theirs.startswith("postnet_") and ours.startswith("loss."):
            continue
        *parents, last = ours.split(".")
        holder = config
        for name in parents:
            holder = holder.get(name) if holder is not None and name in holder else None
        if holder is not None and last in holder:
            holder[last] = type(holder[last])(value)
    config.source = ConfigDict(
        {
            "file": checkpoint.path.name,
            "step": checkpoint.step,
            "task": str(checkpoint.hparams.get("task_cls", "")),
        }
    )


def hparams_notes(checkpoint: TorchCheckpoint) -> Iterator[str]:
    """What the owner of the checkpoint should know."""
    if not checkpoint.hparams:
        yield "there is no config.yaml beside it: settings of its training are those of the published configs."
    chosen = number(checkpoint.hparams, "infer_ckpt_steps")
    if chosen is not None and int(chosen) != checkpoint.step:
        yield f"its config.yaml names step {int(chosen)} for inference: choose it with --step {int(chosen)} if that file is there."


# ----------------------------------------------------------------------------------------------------
# An original checkpoint in our terms, and the work folder it becomes.


@dataclasses.dataclass(frozen=True)
class Imported:
    """A checkpoint in our terms.

    Attributes:
      title: what it is, for people.
      stage, step: of the checkpoint.
      config: resolved, as `config.json` will hold it.
      state: `params` and what else the stage keeps: `batch_stats`, `constants`, `occupancy`.
      notes: sentences that its owner should read.
    """

    title: str
    stage: str
    step: int
    config: ConfigDict
    state: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def n_parameters(self) -> int:
        """Number of parameters of all networks."""
        return sum(value.size for value in jax.tree.leaves(self.state["params"]))


def write_work_folder(imported: Imported, folder: str | Path) -> Path:
    """Writes the work folder, whole or not at all.

    Raises:
      InputError: the folder is there and not empty.
    """
    return write_folder(require_new(folder), lambda target: fill_work_folder(imported, target))


def fill_work_folder(imported: Imported, target: Path) -> None:
    """Writes the content of a work folder into `target`, which exists and is nobody else's."""
    configs.save(imported.config, target)
    checkpoints.save(target, imported.step, imported.state, {"config": imported.config, "metrics": {}})
    for note in (target / checkpoints.FOLDER).rglob("commit_success.txt"):
        note.unlink()  # it names the temporary folder, and nothing reads it


def require_new(folder: str | Path) -> Path:
    """`folder` as a path.

    Raises:
      InputError: it is there and not empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already: name a new folder, or remove that one.")
    return folder
