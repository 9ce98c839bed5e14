"""One checkpoint file of the originals, whatever network it is of."""

from __future__ import annotations

from data_tools.errors import InputError
from geneface_jax.convert import field_checkpoint, nerf_checkpoint, speech_checkpoint
from geneface_jax.convert.imported import Imported
from geneface_jax.convert.torch_checkpoint import TorchCheckpoint
from geneface_jax.io.checkpoints import Checkpoint


def import_checkpoint(checkpoint: TorchCheckpoint, vae: Checkpoint | None = None) -> Imported:
    """Converts a checkpoint of any stage; of a torso's, the torso alone (`field_checkpoint.import_head` gives the head it carries).

    Args:
      checkpoint: as read from the original file.
      vae: an imported VAE for a PostNet that carries none.

    Raises:
      InputError: another kind of checkpoint, a VAE that is not wanted, or as the importer of its kind.
    """
    network = checkpoint.networks.get("model", {})
    if field_checkpoint.is_field(network) or nerf_checkpoint.is_nerf(network):
        if vae is not None:
            raise InputError(f"{checkpoint.path} needs no VAE (it is a radiance field): leave --audio2motion away.")
        if nerf_checkpoint.is_nerf(network):
            return nerf_checkpoint.import_nerf(checkpoint)
        torso = field_checkpoint.has_torso(checkpoint)
        return field_checkpoint.import_torso(checkpoint) if torso else field_checkpoint.import_head(checkpoint)
    return speech_checkpoint.import_checkpoint(checkpoint, vae)
