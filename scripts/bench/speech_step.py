"""Times complete training steps of the speech stages against the same steps in plain PyTorch, in one run; writes JSON.

    python scripts/bench/speech_step.py [--stages syncnet audio2motion postnet] [--batch 32] [--turns 3] [--json FILE]

The stages are the library's `reference` variants on a synthetic corpus with 1024 audio channels (like HuBERT); a step has forward pass,
losses with the SyncNet expert, gradients, clipping and optimizer. Both implementations start with the same weights and use the same batch;
their random numbers differ, so `first_losses` agree exactly only without randomness (SyncNet). The PyTorch implementation is
scripts/bench/torch_speech.py and needs torch (pip install torch==2.13.0). A few minutes on two CPU cores.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels"), str(ROOT / "scripts" / "bench")]

import jax  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch_speech  # noqa: E402
from torch.nn.utils import clip_grad_norm_  # noqa: E402

from data_tools.io import read_json, write_json  # noqa: E402
from geneface_jax.convert import speech  # noqa: E402
from geneface_jax.io import checkpoints, configs  # noqa: E402
from geneface_jax.training import devices  # noqa: E402
from geneface_jax.training.stage import get_stage  # noqa: E402
from tests.synthetic_corpus import speech_and_motion  # noqa: E402
from tests.synthetic_subject import write_subject  # noqa: E402

CHANNELS, MOUTH = 1024, slice(144, 204)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", nargs="+", choices=STEPS, default=list(STEPS), help="stages (default: all)")
    parser.add_argument(
        "--batch", type=int, default=32, help="windows of 200 frames per step; SyncNet always uses 1,024 clips (default %(default)s)"
    )
    parser.add_argument("--turns", type=int, default=3, help="timed steps of each, in turns, after the compiling one (default %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        sources = write_sources(Path(folder), args.batch)
        for stage in args.stages:
            rows[stage] = compare(stage, sources, args.turns)
            print(stage, json.dumps(rows[stage]), flush=True)
    result = {
        "device": f"{platform.machine()}, {os.cpu_count()} CPU cores",
        "torch": torch.__version__,
        "jax": jax.__version__,
        "config": f"reference variants, {args.batch} windows of 200 frames, {CHANNELS} audio channels; SyncNet 1024 clips",
        "stages": rows,
    }
    if args.json:
        write_json(args.json, result)


def compare(stage: str, sources: list[str], turns: int) -> dict:
    """Seconds per step of both implementations."""
    config = configs.load(f"{stage}:reference")
    keys = set(configs.keys(config))
    if stage == "syncnet":
        keys.remove("data.batch")
    config = configs.override(config, [source for source in sources if source.partition("=")[0] in keys])
    ours, theirs = STEPS[stage](get_stage(config))
    losses = {"jax": [ours()], "torch": [theirs()]}
    seconds: dict[str, list[float]] = {"jax": [], "torch": []}
    for _ in range(turns):
        for name, step in (("jax", ours), ("torch", theirs)):
            time.sleep(0.5)
            started = time.perf_counter()
            losses[name].append(step())
            seconds[name].append(time.perf_counter() - started)
    best = {name: min(values) for name, values in seconds.items()}
    return {
        "jax_s": round(best["jax"], 3),
        "torch_s": round(best["torch"], 3),
        "ratio": round(best["jax"] / best["torch"], 3),
        "first_losses": {name: [float(f"{loss:.5g}") for loss in values[:2]] for name, values in losses.items()},
    }


def write_sources(folder: Path, batch: int) -> list[str]:
    """Writes a corpus, a person, an untrained expert and VAE, all with 1024 audio channels; returns the overrides that point to them."""
    rng = np.random.default_rng(0)
    corpus, subject = folder / "corpus", folder / "subject"
    arrays, clips = {}, []
    for number in range(8):
        name, frames = f"voice{number}_0", 240
        _, f0, motion = speech_and_motion(rng, frames)
        arrays[f"{name}/audio_features"] = rng.normal(size=(2 * frames, CHANNELS)).astype(np.float32)
        arrays[f"{name}/f0"], arrays[f"{name}/motion"] = f0, motion
        clips.append({"name": name, "speaker": f"voice{number}", "n_frames": frames, "split": "train" if number < 7 else "val"})
    corpus.mkdir()
    np.savez(corpus / "clips.npz", **arrays)
    kind = {"face_model": "mediapipe", "audio_model": "hubert"}
    write_json(corpus / "meta.json", {"format": "geneface_jax.corpus", "format_version": 1, **kind, "clips": clips})

    write_subject(subject, frames=260)
    with np.load(subject / "arrays.npz", allow_pickle=False) as archive:
        person = dict(archive)
    person["audio_features"] = rng.normal(size=(len(person["f0"]), CHANNELS)).astype(np.float32)
    np.savez(subject / "arrays.npz", **person)
    write_json(subject / "meta.json", read_json(subject / "meta.json") | kind)

    sources = [f"data.corpus={corpus}", f"data.subject={subject}"]
    for name in ("syncnet", "audio2motion"):
        config = configs.load(f"{name}:reference")
        keys = set(configs.keys(config))
        stage = get_stage(configs.override(config, [source for source in sources if source.partition("=")[0] in keys]))
        configs.save(stage.config, folder / name)
        checkpoints.save(folder / name, 1, stage.init(jax.random.key(0)), {"config": stage.config, "metrics": {}})
        sources.append(f"data.{name}={folder / name}")
    return [*sources, f"data.batch={batch}", f"data.person_batch={batch}"]


def our_step(stage, state) -> Callable[[], float]:
    """A closure that performs one update of a stage and returns its sync loss if it has one, else its squared error."""
    step_fn = devices.parallel_step(stage.train_step)
    run = {"state": devices.replicate(state), "data": devices.replicate(stage.data()), "step": 0}
    batch = devices.shard(stage.host_batch(0))

    def step() -> float:
        run["state"], metrics = step_fn(run["state"], run["data"], batch, jax.random.key(run["step"]), np.int32(run["step"]))
        run["step"] += 1
        metrics = {name: float(value[0]) for name, value in metrics.items()}
        return metrics["sync_loss"] if "sync_loss" in metrics else metrics["mse"]

    return step


def tensors(batch) -> dict:
    """The batch as torch tensors."""
    return jax.tree.map(lambda x: torch.from_numpy(np.array(x)), batch)


def syncnet(stage):
    """SyncNet's step in both implementations."""
    theirs = torch_speech.SyncNet(CHANNELS, stage.config.model.base).train()
    converted = speech.convert_syncnet(torch_speech.state_dict(theirs))
    ours = our_step(stage, stage.init(jax.random.key(0)) | converted)
    optimizer, batch = torch.optim.Adam(theirs.parameters(), lr=stage.config.optimizer.lr), tensors(stage.host_batch(0))

    def step() -> float:
        loss = torch_speech.bce(theirs(batch["audio"], batch["mouth"]), batch["label"])
        return update(loss, [(theirs, optimizer)])

    return ours, step


def audio2motion(stage):
    """The VAE's step in both implementations."""
    theirs = torch_speech.Audio2Motion(stage.config.model, CHANNELS).train()
    converted = speech.convert_audio2motion(torch_speech.state_dict(theirs))
    ours = our_step(stage, stage.init(jax.random.key(0)) | converted)
    optimizer, batch, expert = torch.optim.Adam(theirs.parameters(), lr=1e-7), tensors(stage.host_batch(0)), frozen_expert(stage)
    weights = stage.config.loss

    def step() -> float:
        motion, mask = batch["motion"], batch["mask"]
        noise = torch.randn(len(motion), motion.shape[1] // torch_speech.STRIDE, theirs.latent)
        predicted, kl = theirs(motion, mask, batch["audio"], noise)
        frames = mask.sum() * motion.shape[-1]
        mse = ((predicted - motion) ** 2 * mask[..., None]).sum() / frames
        steps = (predicted.diff(dim=1) - motion.diff(dim=1)) * mask[:, 1:, None]
        continuity = ((steps**2).sum() + ((predicted[:, 0] - motion[:, 0]) ** 2).sum()) / frames
        sync = expert_loss(expert, batch["audio"], predicted, weights.sync_clips)
        update(weights.mse * mse + weights.continuity * continuity + weights.kl * kl + weights.sync * sync, [(theirs, optimizer)])
        return float(mse.detach())

    return ours, step


def postnet(stage):
    """The GAN's step in both implementations, with frozen VAE and expert."""
    model, weights = stage.config.model, stage.config.loss
    generator, discriminator = torch_speech.PostNet(model.base).train(), torch_speech.Discriminator(model.base, model.dropout).train()
    vae = torch_speech.Audio2Motion(stage.config.audio2motion.model, CHANNELS).eval()
    state = stage.init(jax.random.key(0))
    parts = {"postnet": speech.convert_postnet, "discriminator": speech.convert_discriminator, "audio2motion": speech.convert_audio2motion}
    networks = {"postnet": generator, "discriminator": discriminator, "audio2motion": vae}
    for name, convert in parts.items():
        for collection, values in convert(torch_speech.state_dict(networks[name])).items():
            state[collection] = {**state[collection], name: values}
    ours = our_step(stage, state)
    optimizers = [torch.optim.RMSprop(network.parameters(), lr=1e-7) for network in (generator, discriminator)]
    batch, expert = tensors(stage.host_batch(0)), frozen_expert(stage)
    corpus, person = batch["corpus"], batch["person"]

    def sample(windows):
        shape = len(windows["motion"]), windows["motion"].shape[1] // torch_speech.STRIDE, vae.latent
        return vae.generate(windows["audio"], torch.randn(shape)) * windows["mask"][..., None]

    def step() -> float:
        real_voice, fake = generator(sample(person)), generator(sample(corpus))
        mse = ((real_voice - person["motion"]) ** 2).mean()
        adversarial = ((1 - discriminator(fake)) ** 2).mean()
        sync = expert_loss(expert, corpus["audio"], fake, weights.sync_clips)
        update(weights.mse * mse + weights.adv * adversarial + weights.sync * sync, [(generator, optimizers[0])])
        loss = (discriminator(fake.detach()) ** 2).mean() + ((discriminator(person["motion"]) - 1) ** 2).mean()
        update(loss, [(discriminator, optimizers[1])])
        return float(mse.detach())

    return ours, step


def frozen_expert(stage) -> torch_speech.SyncNet:
    """An untrained SyncNet of the same size without gradients."""
    expert = torch_speech.SyncNet(CHANNELS, stage.expert.network.base).eval()
    return expert.requires_grad_(False)


def expert_loss(expert, audio, motion, clips: int) -> torch.Tensor:
    """Cross-entropy of clips sampled from the windows."""
    items, frames = motion.shape[:2]
    per_item = -(-clips // items)
    starts = torch.randint(0, frames - 4, (items, per_item))
    rows = torch.arange(items)[:, None, None]
    audio_clips = audio[rows, 2 * starts[..., None] + torch.arange(10)].flatten(0, 1)
    mouth_clips = motion[..., MOUTH][rows, starts[..., None] + torch.arange(5)].flatten(0, 1)
    return torch_speech.bce(expert(audio_clips, mouth_clips), 1.0)


def update(loss: torch.Tensor, trained) -> float:
    """One update of the (network, optimizer) pairs; returns the loss."""
    for network, optimizer in trained:
        optimizer.zero_grad()
        loss.backward(inputs=list(network.parameters()))
        clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return float(loss.detach())


STEPS = {"syncnet": syncnet, "audio2motion": audio2motion, "postnet": postnet}

if __name__ == "__main__":
    main()
