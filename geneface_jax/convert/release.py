"""Import of one checkpoint, or of a folder of checkpoint folders as the originals are released, as work folders."""

import dataclasses
import shutil
from pathlib import Path

from data_tools.errors import InputError
from data_tools.io import write_folder
from geneface_jax.convert import torch_checkpoint
from geneface_jax.convert.dataset import ImportedDataset, fill_dataset
from geneface_jax.convert.fields import has_torso, import_head, import_nerf, import_torso, is_field, is_nerf
from geneface_jax.convert.rules import Imported, fill_work_folder, require_new
from geneface_jax.convert.speech import POSTNET, POSTNET_ALONE, family_of, import_speech
from geneface_jax.convert.torch_checkpoint import BEST_FILE, STEP_FILE, TorchCheckpoint
from geneface_jax.data.subject import record_camera
from geneface_jax.io import checkpoints
from geneface_jax.io.checkpoints import Checkpoint
from geneface_jax.io.weights import head_fingerprint

# -------- One checkpoint file of any supported network


def import_checkpoint(checkpoint: TorchCheckpoint, vae: Checkpoint | None = None) -> Imported:
    """Converts a checkpoint of any stage; of a torso's checkpoint only the torso (`radnerf.import_head` converts the head in it).

    Args:
      checkpoint: as read from the original file.
      vae: an imported VAE for a PostNet whose checkpoint contains none.

    Raises:
      InputError: another kind of checkpoint, a VAE that is not needed, or as the importer of its kind.
    """
    try:
        return _import(checkpoint, vae)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # A stranger's file can have tensors and settings of any shape, and so fail in any line of a converter.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{checkpoint.path} does not hold such a network as the originals write it ({reason}): get the file again."
        ) from error


def _import(checkpoint: TorchCheckpoint, vae: Checkpoint | None) -> Imported:
    network = checkpoint.networks.get("model", {})
    if is_field(network) or is_nerf(network):
        if vae is not None:
            raise InputError(f"{checkpoint.path} is a radiance field and needs no VAE: remove --audio2motion.")
        if is_nerf(network):
            return import_nerf(checkpoint)
        return import_torso(checkpoint) if has_torso(checkpoint) else import_head(checkpoint)
    return import_speech(checkpoint, vae)


# -------- A folder of checkpoint folders, as the originals are released -> all work folders of a person or corpus
#
# `lrs3/` holds SyncNet and the VAE, a person's folder the PostNet, head and torso. Networks are identified by their weights, not by folder
# names.


@dataclasses.dataclass(frozen=True)
class Release:
    """The converted content of a release, not yet written.

    Attributes:
      parts: name of the work folder -> imported checkpoint.
      dataset: of the person; None if none was given.
      speech: an imported work folder that becomes the person's `audio2motion`, for persons without a PostNet.
      notes: sentences for the user.
    """

    parts: dict[str, Imported]
    dataset: ImportedDataset | None
    speech: Path | None
    notes: tuple[str, ...]


def checkpoint_folders(source: Path) -> list[Path]:
    """The folders in `source` that hold a checkpoint of the originals, sorted by name."""
    if not source.is_dir():
        return []
    return sorted(folder for folder in source.iterdir() if folder.is_dir() and any(map(_is_checkpoint, folder.iterdir())))


def import_release(source: Path, dataset: ImportedDataset | None = None, audio2motion: Path | None = None) -> Release:
    """Converts the newest step of every checkpoint folder in `source`.

    Args:
      source: the folder.
      dataset: the person's dataset, if given.
      audio2motion: work folder of an imported VAE, for a PostNet whose checkpoint contains none or a person without a PostNet.

    Raises:
      InputError: two folders hold the same stage, a checkpoint can't be converted, or the VAE is not needed.
    """
    found = [torch_checkpoint.read(folder) for folder in checkpoint_folders(source)]
    vae = checkpoints.load(audio2motion) if audio2motion else None
    parts: dict[str, Imported] = {}
    notes: list[str] = []
    origin: dict[str, TorchCheckpoint] = {}
    vae_used = False
    for checkpoint in found:
        family = family_of(checkpoint.networks.get("model", {}))
        needs_vae = family is POSTNET and "audio2motion_task.model" not in checkpoint.networks
        part = import_checkpoint(checkpoint, vae if needs_vae else None)
        vae_used |= needs_vae and vae is not None
        name = "postnet" if part.stage == POSTNET_ALONE else part.stage
        if name in parts:
            raise InputError(f"{origin[name].path} and {checkpoint.path} are both a {part.title}: import one of them separately.")
        parts[name], origin[name] = part, checkpoint
    for torso, head in (("torso", "head"), ("torso_sr", "head_sr")):
        if torso in parts:
            parts[head], head_notes = _head_of_torso(parts[torso], parts.get(head), origin[torso])
            notes += head_notes
    is_person = any(name not in ("syncnet", "audio2motion") for name in parts)
    speech = audio2motion if audio2motion and is_person and not {"postnet", "audio2motion"} & parts.keys() else None
    if audio2motion and not vae_used and speech is None:
        raise InputError(f"Nothing in {source} needs the VAE {audio2motion}: remove --audio2motion.")
    if is_person and speech is None and not {"postnet", "audio2motion"} & parts.keys():
        notes.append("There is no PostNet and no VAE, so speech can't drive this person: name an imported VAE with --audio2motion.")
    if dataset is None and is_person:
        notes.append("There is no dataset, which inference needs: name the person's trainval_dataset.npy with --dataset.")
    if dataset is not None:
        for name in parts.keys() & {"head", "head_sr", "nerf_head"}:
            record_camera(parts[name].config, dataset.data.size, dataset.data.intrinsics)
    return Release(parts, dataset, speech, tuple(notes))


def write_release(release: Release, folder: str | Path) -> list[str]:
    """Writes all work folders and the dataset into a new folder atomically; returns further notes.

    Raises:
      InputError: the folder exists and is not empty, or pictures of the dataset are missing.
    """
    notes: list[str] = []

    def fill(target: Path) -> None:
        if release.dataset is not None:
            (target / "dataset").mkdir()
            notes.extend(fill_dataset(release.dataset, target / "dataset"))
        for name, part in release.parts.items():
            (target / name).mkdir()
            fill_work_folder(part, target / name)
        if release.speech is not None:
            shutil.copytree(release.speech, target / "audio2motion")

    write_folder(require_new(folder), fill)
    return notes


def _head_of_torso(torso: Imported, head: Imported | None, checkpoint: TorchCheckpoint) -> tuple[Imported, list[str]]:
    """The head that a torso was trained with (its own checkpoint if equal, else the copy in the torso's checkpoint), and notes."""
    copy = import_head(checkpoint)
    if head is None:
        return copy, [f"The head is the copy in {checkpoint.path}."]
    if head_fingerprint(head.state["params"]) != torso.config.head.fingerprint:
        return copy, [f"{checkpoint.path} was trained with another head than the one in this folder: its copy of that head was imported."]
    blink, other = head.config.model.blink_channels, copy.config.model.blink_channels
    if blink != other:
        return head, [f"The head's blink size is {blink} in its own checkpoint and {other} in the torso's: the former was imported."]
    return head, []


def _is_checkpoint(path: Path) -> bool:
    return path.name == BEST_FILE or STEP_FILE.fullmatch(path.name) is not None
