"""A small person for tests: pitch-aware VAE and PostNet with random weights, and a stand-in renderer."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from geneface_jax.data.subject import FeatureTypes, Subject
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.inference.person import Person
from geneface_jax.inference.renderer import Renderer
from geneface_jax.io.person_folder import SubjectParts
from geneface_jax.models.audio2motion import Audio2Motion, Voice
from geneface_jax.models.postnet import CNNPostNet
from tests.synthetic_subject import write_subject


class StubRenderer(Renderer):
    """A renderer that only holds the subject; subclasses define `render`."""

    def __init__(self, subject: Subject):
        self.subject = subject


def tiny_speech() -> AudioToMotion:
    """Untrained networks with non-zero output: noise is added to all parameters, including those initialized to zero."""
    vae = Audio2Motion(
        hidden=16, condition=8, latent=4, flow_hidden=8, decoder_layers=2, encoder_layers=1, flow_blocks=2, pitch=4, pairing="stack"
    )
    audio, motion = np.zeros((1, 16, 82), np.float32), np.zeros((1, 8, 204), np.float32)
    voice = Voice.of(np.zeros((1, 16), np.float32))

    @jax.jit  # compiles one program instead of hundreds of small ones
    def start(key):
        variables = vae.init(key, motion, np.ones((1, 8), np.float32), audio, np.zeros((1, 2, 4), np.float32), voice=voice)
        params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.fold_in(key, x.size), x.shape), variables["params"])
        return {**variables, "params": params}

    postnet = CNNPostNet(8)
    refined = jax.jit(postnet.init)(jax.random.key(1), motion)
    scale = np.zeros(204, np.float32), np.ones(204, np.float32)
    return AudioToMotion(vae, start(jax.random.key(0)), (postnet, refined), *scale, FeatureTypes(), {"mouth_amp": 0.4})


def tiny_person(folder: Path, renderer: type[StubRenderer] = StubRenderer) -> Person:
    """The tiny synthetic subject with `tiny_speech` and a renderer."""
    subject = Subject.load(write_subject(folder / "dataset", frames=44))
    return Person(SubjectParts(folder, "head", "torso", "postnet"), subject, tiny_speech(), renderer(subject))


def voice_with_pauses(seconds: float) -> np.ndarray:
    """[n] samples at 16 kHz: a voice of changing pitch and rising level, with a pause every 1.4 s."""
    t = np.arange(round(16000 * seconds)) / 16000
    voice = np.sin(2 * np.pi * 140 * t) + 0.5 * np.sin(2 * np.pi * 700 * t * (1 + 0.1 * np.sin(3 * t)))
    loud = np.maximum(np.sin(2 * np.pi * 0.7 * t), 0) * (0.05 + 0.02 * t)
    return (loud * voice + np.random.default_rng(0).normal(0, 1e-4, len(t))).astype(np.float32)
