"""Prints the level of a recording or of a video's sound, and writes it as 16 kHz mono and as the networks' input features."""

import argparse
from pathlib import Path

from data_tools.command_line import run_program


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the tool's options."""
    parser.add_argument("file", type=Path, metavar="FILE", help="audio or video file in any container")
    parser.add_argument("--track", type=int, metavar="N", help="sound track, from 1 (default: the first that is not silent)")
    parser.add_argument("--out", type=Path, metavar="WAV", help="16-bit 16 kHz mono wav file to write")
    parser.add_argument("--out-features", type=Path, metavar="NPZ", help="file to write log-mel [2T, 80] and f0 [2T] to")


def run(args: argparse.Namespace) -> int:
    """Runs the tool: prints the level and writes the requested files."""
    import numpy as np

    from data_tools.audio.level import measure_level
    from data_tools.audio.sound import MEL_F0, SAMPLE_RATE, cached, load_audio, n_frames_of, save_wav
    from data_tools.io import require_output, write_npz

    require_output(args.out)
    require_output(args.out_features, option="--out-features")
    samples = load_audio(args.file, track=args.track)
    level = measure_level(samples, SAMPLE_RATE)
    print(f"{len(samples) / SAMPLE_RATE:.2f} s, {level.loudness:.1f} LUFS, peak {level.peak:.1f} dBFS, {level.clipped:.3%} clipped")
    print(f"{level.silent:.1%} silence (longest {level.longest_pause:.2f} s), noise at {level.noise:.1f} dBFS")
    if args.out:
        save_wav(args.out, samples)
    if args.out_features:
        features, f0 = cached(MEL_F0).compute(samples, n_frames_of(samples))
        write_npz(args.out_features, audio_features=np.float32(features), f0=np.float32(f0))
    return 0


if __name__ == "__main__":
    run_program()
