"""The public names, for type checkers and editors; `__init__.py` loads them when they are used."""

from geneface_kernels import GridSpec as GridSpec
from geneface_kernels import MarchConfig as MarchConfig
from geneface_kernels import composite_train as composite_train
from geneface_kernels import grid_encode as grid_encode
from geneface_kernels import march_rays as march_rays
from geneface_kernels import march_train as march_train
from geneface_kernels import near_far_from_aabb as near_far_from_aabb
from geneface_kernels import pack as pack
from geneface_kernels import spherical_harmonics as spherical_harmonics

from data_tools.avatar.speakers import sample_speech as sample_speech
from data_tools.errors import InputError as InputError
from geneface_jax.data.subject import Subject as Subject
from geneface_jax.evaluation.evaluate import evaluate as evaluate
from geneface_jax.evaluation.evaluate import evaluate_video as evaluate_video
from geneface_jax.inference.controls import Controls as Controls
from geneface_jax.inference.culling import bake as bake
from geneface_jax.inference.person import Person as Person
from geneface_jax.inference.person import TalkingVideo as TalkingVideo
from geneface_jax.inference.streaming import stream as stream
from geneface_jax.io.configs import load as load_config  # noqa: F401
from geneface_jax.models.audio2motion import Audio2Motion as Audio2Motion
from geneface_jax.models.head import Head as Head
from geneface_jax.models.nerf import NerfHead as NerfHead
from geneface_jax.models.nerf import NerfTorso as NerfTorso
from geneface_jax.models.postnet import CNNPostNet as CNNPostNet
from geneface_jax.models.postnet import MLPDiscriminator as MLPDiscriminator
from geneface_jax.models.super_resolution import SuperResolution as SuperResolution
from geneface_jax.models.syncnet import SyncNet as SyncNet
from geneface_jax.models.torso import Torso as Torso
from geneface_jax.pipeline import fit as fit
from geneface_jax.pipeline import prepare as prepare
from geneface_jax.rendering.landmark_video import landmark_frames as landmark_frames
from geneface_jax.training.loop import train as train
from geneface_jax.training.recovery import TrainingStopped as TrainingStopped
from geneface_jax.training.reporting import read_metrics as read_metrics

__version__: str
__all__: list[str]
