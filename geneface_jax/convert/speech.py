"""Speech checkpoints of GeneFace and GeneFace++ (SyncNet, audio2motion VAE, PostNet) to our variables and work folders."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.convert import rules
from geneface_jax.convert.torch_checkpoint import TorchCheckpoint
from geneface_jax.data.subject import FeatureTypes, feature_types_of, record_feature_types, require_same_features
from geneface_jax.io import checkpoints, configs
from geneface_jax.models.audio2motion import STRIDE, Voice
from geneface_jax.models.postnet import CNNPostNet, MLPDiscriminator
from geneface_jax.models.syncnet import AUDIO_FRAMES, MOUTH_FRAMES, SyncNet
from geneface_jax.training.stages.audio2motion import build_network

# -------- State dicts of the speech networks -> our variables


def convert_syncnet(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """LandmarkHubertSyncNet -> `models.syncnet.SyncNet`."""
    layer_rules = []
    for theirs, ours in (("hubert_encoder", "audio_encoder"), ("mouth_encoder", "mouth_encoder")):
        layer_rules += [
            rules.Rule(rf"{theirs}\.(\d+)\.conv_block\.0", "conv", rf"{ours}/block_\1/conv"),
            rules.Rule(rf"{theirs}\.(\d+)\.conv_block\.1", "norm", rf"{ours}/block_\1/norm"),
        ]
    return rules.convert(weights, layer_rules)


def convert_audio2motion(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """VAEModel, or PitchContourVAEModel of GeneFace or GeneFace++ -> `models.audio2motion.Audio2Motion`."""
    layer_rules = [
        rules.Rule(r"(pitch|blink)_embed", "embedding", r"voice_encoder/\1_embedding"),
        rules.Rule(r"pitch_encoder\.0", "conv", "voice_encoder/pitch_encoder/conv_in"),
        rules.Rule(r"pitch_encoder\.1", "norm", "voice_encoder/pitch_encoder/norm"),
        rules.Rule(r"pitch_encoder\.3", "conv", "voice_encoder/pitch_encoder/conv_out"),
        rules.Rule(r"cond_proj", "dense", "voice_encoder/join"),
        rules.Rule(r"mel_encoder\.0", "conv", "condition_encoder/conv_in"),
        rules.Rule(r"mel_encoder\.1", "norm", "condition_encoder/norm"),
        rules.Rule(r"mel_encoder\.3", "conv", "condition_encoder/conv_out"),
        rules.Rule(r"vae\.g_pre_net\.0", "conv", "condition_down"),
        rules.Rule(r"vae\.encoder\.pre_net\.0", "conv", "encoder_down"),
        rules.Rule(r"vae\.encoder\.out_proj", "conv", "encoder_out"),
        rules.Rule(r"vae\.decoder\.pre_net\.0", "transposed", "decoder_up"),
        rules.Rule(r"vae\.decoder\.out_proj", "conv", "decoder_out"),
    ]
    for part in ("encoder", "decoder"):
        layer_rules += _wavenet(rf"vae\.{part}\.wn", f"{part}_wavenet")
    for number in range(4):
        theirs, ours = rf"vae\.prior_flow\.flows\.{2 * number}", f"flow/coupling_{number}"
        layer_rules += [rules.Rule(rf"{theirs}\.(pre|post)", "conv", rf"{ours}/\1")]
        layer_rules += _wavenet(rf"{theirs}\.enc", f"{ours}/wavenet")
    return rules.convert(weights, layer_rules, {f"{part}_amp_embed": f"voice_encoder/{part}_amp" for part in ("mouth", "eye")})


def convert_postnet(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """CNNPostNet -> `models.postnet.CNNPostNet`."""
    layer_rules = [
        rules.Rule(r"block3\.1", "conv", "output"),
        rules.Rule(r"block(\d)\.(\d)\.conv_block\.0", "conv", r"block\1_\2/conv"),
        rules.Rule(r"block(\d)\.(\d)\.conv_block\.1", "norm", r"block\1_\2/norm"),
    ]
    return rules.convert(weights, layer_rules)


def convert_discriminator(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """MLPDiscriminator -> `models.postnet.MLPDiscriminator`."""
    layer_rules = [rules.Rule(r"backbone\.12", "dense", "score")]
    layer_rules += [rules.Rule(rf"backbone\.{3 * i}", "dense", f"layer_{i}") for i in range(4)]
    return rules.convert(weights, layer_rules)


def _wavenet(theirs: str, ours: str) -> list[rules.Rule]:
    return [
        rules.Rule(rf"{theirs}\.in_layers\.(\d+)", "conv", rf"{ours}/gates_\1"),
        rules.Rule(rf"{theirs}\.res_skip_layers\.(\d+)", "conv", rf"{ours}/residual_skip_\1"),
        rules.Rule(rf"{theirs}\.cond_layer", "conv", ours + "/condition"),
    ]


# -------- Checkpoints of the speech stages -> imported checkpoints

ORIGINAL_FEATURES = FeatureTypes("bfm", "hubert")
"""Feature types that every published checkpoint was trained on."""

CENTER = "none"
"""The originals do not center the motion."""

HUBERT_CHANNELS = 1024

POSTNET_ALONE = "postnet_without_vae"
"""Stage name of a PostNet without a VAE; inference, which needs one, refuses it by this name."""


@dataclasses.dataclass(frozen=True)
class Family:
    """One kind of original network.

    Attributes:
      title: name for messages.
      key_pattern: regular expression of keys that only this kind has.
      stage: our stage, whose reference config describes it.
      sizes: state_dict -> changes of that config's `model`.
      converter: state_dict -> our variables.
      init: (model config) -> the module's variables; evaluated only for their shapes.
    """

    title: str
    key_pattern: str
    stage: str
    sizes: Callable[[rules.Weights], dict[str, Any]]
    converter: rules.Converter
    init: Callable[[ConfigDict], Any]


def _init_syncnet(model: ConfigDict) -> Any:
    audio, mouth = jnp.zeros((1, AUDIO_FRAMES, HUBERT_CHANNELS)), jnp.zeros((1, MOUTH_FRAMES, 60))
    return SyncNet(model.base).init(jax.random.key(0), audio, mouth)


def _init_audio2motion(model: ConfigDict) -> Any:
    frames = 2 * STRIDE
    motion, mask, noise = jnp.zeros((1, frames, model.motion_dim)), jnp.ones((1, frames)), jnp.zeros((1, 2, model.latent))
    audio = jnp.zeros((1, 2 * frames, HUBERT_CHANNELS))
    return build_network(model).init(jax.random.key(0), motion, mask, audio, noise, voice=Voice.of(audio[..., 0]))


def _init_postnet(model: ConfigDict) -> Any:
    return CNNPostNet(model.base).init(jax.random.key(0), jnp.zeros((1, STRIDE, 204)))


def _init_discriminator(model: ConfigDict) -> Any:
    return MLPDiscriminator(model.base).init(jax.random.key(0), jnp.zeros((1, STRIDE, 204)))


SYNCNET = Family("SyncNet", r"hubert_encoder\.", "syncnet", rules.syncnet_sizes, convert_syncnet, _init_syncnet)
AUDIO2MOTION = Family("audio2motion VAE", r"vae\.", "audio2motion", rules.audio2motion_sizes, convert_audio2motion, _init_audio2motion)
POSTNET = Family("PostNet", r"block1\.", "postnet", rules.postnet_sizes, convert_postnet, _init_postnet)
DISCRIMINATOR = Family("discriminator", r"backbone\.", "postnet", lambda weights: {}, convert_discriminator, _init_discriminator)

STAGES = (SYNCNET, AUDIO2MOTION, POSTNET)
"""Networks that a task stores as `model`; they identify the stage of a checkpoint."""


def family_of(network: Mapping[str, np.ndarray]) -> Family | None:
    """The kind of network of a state_dict; None for other networks."""
    return next((family for family in STAGES if any(re.match(family.key_pattern, key) for key in network)), None)


def import_speech(checkpoint: TorchCheckpoint, vae: checkpoints.Checkpoint | None = None) -> rules.Imported:
    """Converts a checkpoint of SyncNet, the audio2motion VAE or PostNet.

    Args:
      checkpoint: as read from the original file.
      vae: an imported VAE for a PostNet whose checkpoint contains none.

    Raises:
      InputError: another kind of checkpoint; keys that are unknown, missing or of a wrong shape (all are listed); a VAE that is not
        needed or has other feature types.
    """
    family = family_of(checkpoint.networks.get("model", {}))
    if family is None:
        raise InputError(
            f"{checkpoint.path} holds {', '.join(checkpoint.networks)}, none of which is a supported network: give a "
            "checkpoint of SyncNet, the audio2motion VAE, PostNet, RAD-NeRF or vanilla NeRF."
        )
    if vae is not None and (family is not POSTNET or "audio2motion_task.model" in checkpoint.networks):
        raise InputError(f"{checkpoint.path} is a complete {family.title} and needs no other VAE: remove --audio2motion.")
    parts = _parts(family, checkpoint)
    config = _config(family, checkpoint, parts)
    variables = {}
    problems = []
    for name, (part, weights) in parts.items():
        expected = jax.eval_shape(lambda part=part, name=name: part.init(_model(config, name)))
        variables[name], found = rules.match(weights, part.converter, expected)
        problems += [f"{problem} ({part.title})" for problem in found] if len(parts) > 1 else found
    rules.require_match(checkpoint, problems, family.title)
    stage, notes = family.stage, list(rules.hparams_notes(checkpoint))
    if family is POSTNET:
        stage, vae_notes = _add_vae(config, variables, vae)
        notes += vae_notes
        state = {collection: _collection(variables, collection) for collection in ("params", "batch_stats")}
        motion_dim = 204
    else:
        state = dict(variables["model"])
        motion_dim = config.model.motion_dim if "motion_dim" in config.model else 204
    config.stage = stage
    state["constants"] = {"motion_mean": np.zeros(motion_dim, np.float32), "motion_std": np.ones(motion_dim, np.float32)}
    return rules.Imported(family.title, stage, checkpoint.step, config, state, tuple(notes))


# The networks in a PostNet's checkpoint: (original's name, our name, kind).
_POSTNET_PARTS = (
    ("model", "postnet", POSTNET),
    ("disc_model", "discriminator", DISCRIMINATOR),
    ("audio2motion_task.model", "audio2motion", AUDIO2MOTION),
    ("syncnet_task.model", "syncnet", SYNCNET),
)


def _parts(family: Family, checkpoint: TorchCheckpoint) -> dict[str, tuple[Family, dict[str, np.ndarray]]]:
    """Our name of a network -> (kind, weights)."""
    if family is not POSTNET:
        return {"model": (family, checkpoint.networks["model"])}
    networks = checkpoint.networks
    return {ours: (family_of(networks[name]) or kind, networks[name]) for name, ours, kind in _POSTNET_PARTS if name in networks}


def _config(family: Family, checkpoint: TorchCheckpoint, parts: Mapping[str, tuple[Family, Any]]) -> ConfigDict:
    """The stage's reference config with the checkpoint's sizes and hyperparameters; `source` records its origin."""
    config = configs.load(f"{family.stage}:reference")
    with config.unlocked():
        record_feature_types(config, ORIGINAL_FEATURES)
        for name, (part, weights) in parts.items():
            if name in ("model", "postnet"):
                config.model.update(part.sizes(weights))
            elif name in ("audio2motion", "syncnet"):
                model = configs.load(f"{part.stage}:reference").model
                model.update(part.sizes(weights))
                config[name] = ConfigDict({"model": model.to_dict(), "center": CENTER})
        if "center" in config.data:
            config.data.center = CENTER
        rules.apply_hparams(config, checkpoint)
    return config


def _model(config: ConfigDict, name: str) -> ConfigDict:
    """The model config of a network; PostNet and discriminator share one."""
    return config[name].model if name in ("audio2motion", "syncnet") else config.model


def _add_vae(config: ConfigDict, variables: dict[str, Any], vae: checkpoints.Checkpoint | None) -> tuple[str, list[str]]:
    """Adds `vae` to a PostNet whose checkpoint contains none; returns (stage, notes)."""
    if "audio2motion" in variables:
        return "postnet", []
    if vae is None:
        return POSTNET_ALONE, [
            "The checkpoint contains no audio2motion VAE, which inference needs: import it again with --audio2motion DIR."
        ]
    require_same_features("the PostNet", ORIGINAL_FEATURES, "the VAE of --audio2motion", feature_types_of(vae.config.data))
    with config.unlocked():
        config.audio2motion = ConfigDict({"model": vae.config.model.to_dict(), "center": vae.config.data.center})
    variables["audio2motion"] = {"params": vae.state["params"], "batch_stats": vae.state["batch_stats"]}
    return "postnet", []


def _collection(variables: Mapping[str, Mapping[str, Any]], collection: str) -> dict[str, Any]:
    return {name: trees[collection] for name, trees in variables.items() if collection in trees}
