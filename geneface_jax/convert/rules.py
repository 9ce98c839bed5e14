"""Conversion rules: PyTorch layers to Flax layout, key matching, sizes and hyperparameters of the originals, writing work folders."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from data_tools.errors import InputError
from data_tools.io import require_output, write_folder
from geneface_jax.convert.torch_checkpoint import TorchCheckpoint, number
from geneface_jax.io import checkpoints, configs

# -------- Rules from PyTorch modules to Flax modules, and the layout of each kind of layer

_BATCH_NORM = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}


class Rule(NamedTuple):
    """Conversion of the PyTorch modules that match a pattern.

    Attributes:
      pattern: regular expression of the module's path in a state_dict (without the parameter name).
      kind: "dense" [O, I]; "conv" [O, I, K]; "transposed" [I, O, K]; "middle_tap": a convolution of width 3 that is only applied to
        sequences of length 1, which makes it a dense layer; "norm": batch norm; "embedding": [rows, C], unchanged.
      target: our module path, separated by "/", with references to groups of the pattern.
    """

    pattern: str
    kind: str
    target: str


def convert(weights: Mapping[str, np.ndarray], rules: Sequence[Rule], values: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Builds {"params", "batch_stats"} from a state_dict.

    Args:
      weights: name -> array; batch-norm counters are ignored.
      rules: one for every kind of module.
      values: full name -> our path, for parameters that are copied unchanged.

    Raises:
      InputError: a name that no rule matches.
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
        raise InputError(f"The checkpoint has unknown parameters ({', '.join(sorted(unknown))}): give a checkpoint of this model.")
    return variables


def put(tree: dict[str, Any], path: str, value: np.ndarray) -> None:
    """Sets a leaf of a nested dict; the path is separated by "/"."""
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


def frame_encoder(prefix: str, target: str, frames: int = 1) -> list[Rule]:
    """Rules of an AudioNet for windows of `frames` frames; for single frames only the convolutions' middle taps have an effect."""
    kind = "middle_tap" if frames == 1 else "conv"
    return [
        *(Rule(rf"{prefix}\.encoder_conv\.{2 * i}", kind, f"{target}/conv_{i}") for i in range(4)),
        *(Rule(rf"{prefix}\.encoder_fc1\.{2 * i}", "dense", f"{target}/fc_{i}") for i in range(2)),
    ]


def window_attention(prefix: str, target: str) -> list[Rule]:
    """Rules of an AudioAttNet."""
    return [
        *(Rule(rf"{prefix}\.attentionConvNet\.{2 * i}", "conv", f"{target}/conv_{i}") for i in range(5)),
        Rule(rf"{prefix}\.attentionNet\.0", "dense", f"{target}/dense"),
    ]


def check_shapes(found: Mapping[str, Any], expected: Mapping[str, Any], what: str) -> None:
    """Compares a converted tree with the model's variables (arrays or shapes).

    Raises:
      InputError: leaves that are missing, unexpected or of another shape; the message lists all of them.
    """
    ours, theirs = flat_shapes(expected), flat_shapes(found)
    problems = [f"{name} is missing" for name in sorted(ours.keys() - theirs.keys())]
    problems += [f"{name} is not part of this model" for name in sorted(theirs.keys() - ours.keys())]
    problems += [f"{k} is {theirs[k]}, the model has {ours[k]}" for k in sorted(ours.keys() & theirs.keys()) if ours[k] != theirs[k]]
    if problems:
        raise InputError(f"{what} does not fit the model: {'; '.join(problems)}.")


def flat_shapes(tree: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Path -> shape of every leaf of a nested dict."""
    return {path: tuple(np.shape(leaf)) for path, leaf in flat_leaves(tree).items()}


def flat_leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Path -> leaf of a nested dict; paths are separated by "/"."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= flat_leaves(value, f"{prefix}{name}/")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


# -------- Matching of a state_dict against one of our networks, key by key, so that all problems are reported at once

Converter = Callable[[Mapping[str, np.ndarray]], dict[str, Any]]
"""state_dict -> {"params", "batch_stats"}, as the functions of `convert.speech`; accepts any subset of a state_dict."""


def match(weights: Mapping[str, np.ndarray], converter: Converter, expected: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Converts a state_dict and compares it with the network's variables.

    Args:
      weights: the original's names -> arrays.
      converter: of this network.
      expected: the network's variables, arrays or shapes.

    Returns:
      (variables, problems): the non-empty collections, and a phrase for every key that is unknown, missing (under our name) or of another
      shape. The variables are complete only if there are no problems.
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
            problems.append(f"{key} is {_dimensions(value.shape)}, which no layer of its kind has")
            continue
        for path, array in leaves.items():
            if path not in shapes:
                problems.append(f"{key} is not part of this model")
            elif array.shape != shapes[path]:
                problems.append(
                    f"{key} is {_dimensions(value.shape)}: {path} is {_dimensions(shapes[path])}, not {_dimensions(array.shape)}"
                )
            seen.add(path)
            put(variables, path, array)
    problems += [f"{path} is missing" for path in shapes if path not in seen]
    return variables, problems


def require_match(checkpoint: TorchCheckpoint, problems: Sequence[str], network: str) -> None:
    """Raises InputError with all problems that `match` found, if any."""
    if problems:
        raise InputError(f"{checkpoint.path} does not fit our {network}, so nothing was imported: {'; '.join(problems)}.")


def _dimensions(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a scalar"


# -------- Model sizes inferred from the shapes of the weights
#
# A size whose weight is missing is left out: the reference config's size stays, and the comparison with the model reports the weight.

Weights = Mapping[str, np.ndarray]


def syncnet_sizes(weights: Weights) -> dict[str, Any]:
    """LandmarkHubertSyncNet -> `model` of configs/syncnet.py."""
    return positive(base=axis_size(weights, "hubert_encoder.1.conv_block.0.weight", 0))


def audio2motion_sizes(weights: Weights) -> dict[str, Any]:
    """VAEModel or PitchContourVAEModel -> `model` of configs/audio2motion.py. The originals keep every second audio frame.

    The projection `cond_proj` distinguishes GeneFace++'s pitch variant, which always has the blink input, from GeneFace's.
    """
    condition = positive(condition=axis_size(weights, "mel_encoder.3.weight", 0), pitch=axis_size(weights, "pitch_encoder.3.weight", 0))
    inputs = {"blink": "cond_proj.weight", "mouth_amp": "mouth_amp_embed", "eye_amp": "eye_amp_embed"}
    return {**autoencoder_sizes(weights), **condition, **{name: key in weights for name, key in inputs.items()}, "pairing": "even"}


def autoencoder_sizes(weights: Weights) -> dict[str, Any]:
    """Sizes of encoder, decoder and flow, common to all audio2motion VAEs."""
    flow = "vae.prior_flow.flows"
    return positive(
        motion_dim=axis_size(weights, "vae.decoder.out_proj.weight", 0),
        hidden=axis_size(weights, "vae.encoder.pre_net.0.weight", 0),
        kernel_size=axis_size(weights, "vae.encoder.wn.in_layers.0.weight_v", 2),
        encoder_layers=count_layers(weights, r"vae\.encoder\.wn\.in_layers\.\d+\.weight_v"),
        decoder_layers=count_layers(weights, r"vae\.decoder\.wn\.in_layers\.\d+\.weight_v"),
        latent=axis_size(weights, "vae.encoder.out_proj.weight", 0) // 2,
        flow_blocks=count_layers(weights, r"vae\.prior_flow\.flows\.\d+\.pre\.weight"),
        flow_hidden=axis_size(weights, f"{flow}.0.pre.weight", 0),
        flow_layers=count_layers(weights, r"vae\.prior_flow\.flows\.0\.enc\.in_layers\.\d+\.weight_v"),
        flow_kernel_size=axis_size(weights, f"{flow}.0.enc.in_layers.0.weight_v", 2),
    )


def postnet_sizes(weights: Weights) -> dict[str, Any]:
    """CNNPostNet -> `model` of configs/postnet.py; the original initializes its residual at random (`zero_init` is off)."""
    return {**positive(base=axis_size(weights, "block1.0.conv_block.0.weight", 0)), "zero_init": False}


def positive(**sizes: int) -> dict[str, int]:
    """The sizes that are not 0, i.e. whose weights exist."""
    return {name: size for name, size in sizes.items() if size > 0}


def axis_size(weights: Weights, name: str, axis: int) -> int:
    """Length of an axis; 0 if the weight is missing or has too few axes."""
    shape = np.shape(weights[name]) if name in weights else ()
    return shape[axis] if axis < len(shape) else 0


def count_layers(weights: Weights, pattern: str) -> int:
    """Number of weights whose name matches a regular expression."""
    return sum(re.fullmatch(pattern, name) is not None for name in weights)


# -------- Hyperparameters of the original's config.yaml that our configs have too

# Their name -> ours, for all stages; names that a stage's config lacks are skipped.
_SETTINGS = {
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
    """Sets the checkpoint's hyperparameters in `config`, and `config.source` to the origin of the weights.

    Values are cast to our type (PyYAML reads 1e-8 as text). PostNet's generator was trained with `lr`; the original ignores `postnet_lr`.
    """
    stage = config.stage
    table = {**_SETTINGS, "lr": "optimizer.postnet.lr" if stage == "postnet" else "optimizer.lr"}
    for theirs, ours in table.items():
        value = number(checkpoint.hparams, theirs)
        if value is None or (stage == "postnet") != theirs.startswith("postnet_") and ours.startswith("loss."):
            continue
        *parents, last = ours.split(".")
        section = config
        for name in parents:
            section = section.get(name) if section is not None and name in section else None
        if section is not None and last in section:
            section[last] = type(section[last])(value)
    task = checkpoint.hparams.get("task_cls", "")
    task = task if isinstance(task, str) else ""
    config.source = ConfigDict({"file": checkpoint.path.name, "step": checkpoint.step, "task": task})


def hparams_notes(checkpoint: TorchCheckpoint) -> Iterator[str]:
    """Notes for the user about the checkpoint's config.yaml."""
    if not checkpoint.hparams:
        yield "There is no config.yaml next to the checkpoint: its training settings are those of the published configs."
    chosen = number(checkpoint.hparams, "infer_ckpt_steps")
    if chosen is not None and int(chosen) != checkpoint.step:
        yield f"The config.yaml names step {int(chosen)} for inference: use --step {int(chosen)} if that file exists."


# -------- Imported checkpoints and their work folders


@dataclasses.dataclass(frozen=True)
class Imported:
    """A converted checkpoint.

    Attributes:
      title: kind of network, for messages.
      stage, step: of the checkpoint.
      config: resolved, as written to `config.json`.
      state: `params` and the stage's other collections: `batch_stats`, `constants`, `occupancy`.
      notes: sentences for the user.
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
    """Writes the work folder atomically.

    Raises:
      InputError: the folder exists and is not empty.
    """
    return write_folder(require_new(folder), lambda target: fill_work_folder(imported, target))


def fill_work_folder(imported: Imported, target: Path) -> None:
    """Writes the content of a work folder into `target`, an existing temporary folder."""
    configs.save(imported.config, target)
    checkpoints.save(target, imported.step, imported.state, {"config": imported.config, "metrics": {}})
    for note in (target / checkpoints.FOLDER).rglob("commit_success.txt"):
        note.unlink()  # contains the path of the temporary folder; nothing reads it


def require_new(folder: str | Path) -> Path:
    """`folder` as a path.

    Raises:
      InputError: it exists and is not empty, or can't be made.
    """
    require_output(folder, folder=True, replaced=True, option="DST")
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already: give a new folder, or remove this one.")
    return folder
