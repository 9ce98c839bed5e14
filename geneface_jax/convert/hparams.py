"""The settings in an original's config.yaml that our configs have too."""

from __future__ import annotations

from collections.abc import Iterator

from ml_collections import ConfigDict

from geneface_jax.convert.torch_checkpoint import TorchCheckpoint, number

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


def apply(config: ConfigDict, checkpoint: TorchCheckpoint) -> None:
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


def notes(checkpoint: TorchCheckpoint) -> Iterator[str]:
    """What the owner of the checkpoint should know."""
    if not checkpoint.hparams:
        yield "there is no config.yaml beside it: settings of its training are those of the published configs."
    chosen = number(checkpoint.hparams, "infer_ckpt_steps")
    if chosen is not None and int(chosen) != checkpoint.step:
        yield f"its config.yaml names step {int(chosen)} for inference: choose it with --step {int(chosen)} if that file is there."
