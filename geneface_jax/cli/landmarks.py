"""Draws a sequence of 68 landmarks as a video with audio, next to the ground truth if available."""

import argparse
from pathlib import Path

import numpy as np

from data_tools.errors import InputError
from data_tools.records import ArrayFile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    inputs = parser.add_argument_group("input and output")
    source = inputs.add_mutually_exclusive_group(required=True)
    source.add_argument("--audio", metavar="FILE", help="speech; its landmarks are predicted with --subject's networks")
    source.add_argument("--file", metavar="NPZ", help="npz file with the array `motion`, such as a dataset's arrays.npz")
    inputs.add_argument("--subject", metavar="DIR", help="subject folder, or the name of a shipped person (with --audio)")
    inputs.add_argument("--truth", metavar="NPZ", help="npz file with the true `motion` (default: the dataset's if --audio is its audio)")
    inputs.add_argument("--sound", metavar="FILE", help="audio track (with --file)")
    inputs.add_argument("--out", required=True, metavar="MP4", help="video to write")
    inputs.add_argument("--size", type=int, default=512, metavar="PIXELS", help="height of the video (default %(default)s)")
    add = parser.add_argument_group("motion predicted from --audio").add_argument
    add("--stage", choices=["vae", "postnet"], default="postnet", help="before or after the person's PostNet (default %(default)s)")
    add("--step", type=int, metavar="N", help="checkpoint of the PostNet (default: the newest)")
    add("--temperature", type=float, default=0.2, help="sampling temperature of the motion, 0 to 1 (default %(default)s)")
    add("--seed", type=int, default=0, help="random seed of the motion (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints the video's path last."""
    from data_tools.encoder import EncoderOptions, check_output
    from data_tools.landmarks68 import mean_face
    from data_tools.video import write_video
    from geneface_jax.rendering.landmark_video import landmark_frames

    if args.size < 64 or args.size > 2048 or args.size % 2:
        raise InputError(f"--size is {args.size}: give an even number from 64 to 2048.")
    if not 0.0 <= args.temperature <= 1.0:
        raise InputError(f"--temperature is {args.temperature}: give a number from 0.0 to 1.0.")
    check_output(args.out, EncoderOptions(), alpha=False)
    truth = Path(args.truth) if args.truth else None
    if args.file:
        motions, labels, sound = [read_motion(Path(args.file))], [Path(args.file).stem], args.sound
    else:
        if not args.subject:
            raise InputError("--audio needs --subject DIR: give the person whose networks predict the landmarks.")
        from geneface_jax.io.person_folder import find_person

        args.subject = find_person(args.subject)
        motions, labels, sound = [predict(args)], [args.stage], args.audio
        dataset_audio = args.subject / "dataset" / "audio.wav"
        if truth is None and dataset_audio.is_file() and dataset_audio.samefile(args.audio):
            truth = dataset_audio.with_name("arrays.npz")
    if truth is not None:
        motions.append(read_motion(truth))
        labels.append("truth")
    count = write_video(args.out, landmark_frames(motions, labels, mean_face(), args.size), sound)
    print(f"{count} frames, {count / 25:.2f} s")
    print(args.out)
    return 0


def read_motion(path: Path) -> np.ndarray:
    """Reads the array `motion` [T, 68, 3] float32 from an npz file.

    Raises:
      InputError: no such file or array, another shape, or non-finite values.
    """
    with ArrayFile(path, "give an npz file such as a dataset's arrays.npz") as archive:
        motion = archive["motion"]
    if motion.dtype.kind not in "fiu":
        raise InputError(f'"motion" of {path} is {motion.dtype}, not numbers: give an npz file such as a dataset\'s arrays.npz.')
    motion = motion.astype(np.float32)
    if motion.shape[1:] not in ((68, 3), (204,)) or not len(motion) or not np.isfinite(motion).all():
        raise InputError(f'"motion" of {path} has shape {list(motion.shape)} or non-finite values: it must be finite and [T, 68, 3].')
    return motion.reshape(-1, 68, 3)


def predict(args: argparse.Namespace) -> np.ndarray:
    """[T, 68, 3] motion of the audio in `args`, from the VAE alone or followed by the PostNet. Raises InputError as `load_audio`."""
    from data_tools.audio.sound import FPS, SAMPLE_RATE, load_audio
    from geneface_jax.inference.audio_features import audio_features
    from geneface_jax.inference.motion import AudioToMotion

    samples = load_audio(args.audio, min_seconds=0.2)
    speech = AudioToMotion.load(args.subject / "postnet", step=args.step, stage=args.stage)
    features, f0 = audio_features(speech.kind.audio_model).compute(samples, -(-len(samples) * FPS // SAMPLE_RATE))
    return speech.predict(features, f0, temperature=args.temperature, seed=args.seed).reshape(-1, 68, 3)
