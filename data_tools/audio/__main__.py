"""Converts a recording (or a video's audio) to 16 kHz mono, prints its level, and writes the networks' input features.

`python -m data_tools.audio speech.mp4 --out speech.wav --features speech.npz`
"""

import argparse
from pathlib import Path

import numpy as np

from data_tools.audio.sound import MEL_F0, SAMPLE_RATE, cached, load_audio, measure_level, n_frames_of, save_wav
from data_tools.command_line import run_step
from data_tools.io import write_npz


def main() -> None:
    """Prints the level and writes the requested files."""
    parser = argparse.ArgumentParser(prog="python -m data_tools.audio", description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, help="audio or video file in any container")
    parser.add_argument("--out", type=Path, metavar="WAV", help="16-bit 16 kHz mono wav file to write")
    parser.add_argument("--features", type=Path, metavar="NPZ", help="file to write log-mel [2T, 80] and f0 [2T] to")
    args = parser.parse_args()
    samples = load_audio(args.file)
    level = measure_level(samples, SAMPLE_RATE)
    print(f"{len(samples) / SAMPLE_RATE:.2f} s, {level.loudness:.1f} LUFS, peak {level.peak:.1f} dBFS, {level.clipped:.3%} clipped")
    print(f"{level.silent:.1%} silence (longest {level.longest_pause:.2f} s), noise at {level.noise:.1f} dBFS")
    if args.out:
        save_wav(args.out, samples)
    if args.features:
        features, f0 = cached(MEL_F0).compute(samples, n_frames_of(samples))
        write_npz(args.features, audio_features=np.float32(features), f0=np.float32(f0))


if __name__ == "__main__":
    run_step(main)
