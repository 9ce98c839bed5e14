"""Measures `geneface prepare`: accuracy against the avatar's ground truth, wall-clock and CPU seconds per step, peak memory.

    python scripts/bench/prepare.py [--avatar FOLDER] [--seconds 20] [--minutes 10] [--clips FOLDER] [--only NAME ...] [--json FILE]

Parts: `square` (the avatar at 512x512, with accuracy), `portrait` (the same scaled into 1080x1920), `long` (the avatar's clip repeated for
--minutes), `clips` (every video in --clips). Results of parts that are not run are kept in the JSON file. Use an otherwise idle machine for
the wall-clock figures; frames per CPU second hardly depend on the load.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
from scipy.spatial.transform import Rotation

from data_tools.face.pose import similarity
from data_tools.ffmpeg import ffmpeg_executable, probe
from data_tools.io import read_json, read_npz, write_json
from data_tools.landmarks68 import JAW, LANDMARKS_68

# -------- Accuracy on the avatar

REFERENCE_SIZE = 512
"""Image size that pixel figures refer to."""

MASK_EVERY = 10
"""Step between the frames whose head masks are compared."""


def measure_accuracy(dataset: Path, truth: Path, first: int = 0) -> dict[str, float]:
    """Compares a dataset with the clip's ground truth.

    Args:
      dataset: prepared from `truth`/video.mp4 without cropping.
      truth: folder of `avatar.clip.render_clip`.
      first: index of the dataset's first frame in the clip.

    Returns:
      landmarks_px, jaw_px, other_px: median distance of all 68 points, the 17 of the jaw line, and the rest, in pixels at 512;
      jaw_to_outline_px: median distance of the jaw points to the nearest point of the true jaw line;
      landmarks_3d: median distance after one similarity transform per clip, relative to the distance of the outer eye corners;
      pose_median_deg, pose_p95_deg: angle between estimated and true head rotation after removing one constant rotation;
      head_iou: mean intersection over union of the head masks, thresholded at one half;
      background_psnr: dB, over the pixels farther than 10 px (at 512) from the person in at least one frame.
    """
    arrays, ground_truth = read_npz(dataset / "arrays.npz"), read_npz(truth / "truth.npz")
    n_frames, size = len(arrays["motion"]), _read(dataset / "background.png").shape[0]
    span = slice(first, first + n_frames)
    true_size = 2.0 * float(ground_truth["intrinsics"][2])
    found = arrays["landmarks_2d"].astype(np.float64) * REFERENCE_SIZE / size
    mesh = ground_truth["mesh_2d"][span].astype(np.float64) * REFERENCE_SIZE / true_size
    distance = np.linalg.norm(found - mesh[:, LANDMARKS_68], axis=-1)
    angles = pose_errors(arrays["cameras"][:, :3, :3], ground_truth["cameras"][span, :3, :3])
    mean_face = arrays["mean_face"]
    return {
        "landmarks_px": float(np.median(distance)),
        "jaw_px": float(np.median(distance[:, JAW])),
        "other_px": float(np.median(distance[:, JAW.stop :])),
        "jaw_to_outline_px": float(np.median(_distance_to_line(found[:, JAW], mesh[:, LANDMARKS_68[JAW]]))),
        "landmarks_3d": _error_3d(arrays["motion"] / 10.0 + mean_face, ground_truth["motion"][span] / 10.0 + mean_face),
        "pose_median_deg": float(np.median(angles)),
        "pose_p95_deg": float(np.percentile(angles, 95)),
        "head_iou": _head_iou(dataset, truth, n_frames, first),
        "background_psnr": _background_psnr(dataset, truth, size),
    }


def pose_errors(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """[T, 3, 3] camera rotations -> [T] degrees between them after removing one constant rotation of the world."""
    difference = found.astype(np.float64) @ true.astype(np.float64).transpose(0, 2, 1)
    constant = Rotation.from_matrix(difference).mean().as_matrix()
    return np.degrees(Rotation.from_matrix(constant.T @ difference).magnitude())


def _error_3d(found: np.ndarray, true: np.ndarray) -> float:
    scale, turn, shift = similarity(found.reshape(-1, 3).astype(np.float64), true.reshape(-1, 3).astype(np.float64))
    eyes = np.linalg.norm(true[:, 36] - true[:, 45], axis=-1).mean()
    return float(np.median(np.linalg.norm(scale * found @ turn.T + shift - true, axis=-1)) / eyes)


def _distance_to_line(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """[T, P, 2] points and polylines [T, L, 2] -> [T, P] distance to the nearest point of the polyline."""
    start, along = line[:, None, :-1], np.diff(line, axis=1)[:, None]
    share = ((points[:, :, None] - start) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-9)
    nearest = start + np.clip(share, 0.0, 1.0)[..., None] * along
    return np.linalg.norm(points[:, :, None] - nearest, axis=-1).min(-1)


def _head_iou(dataset: Path, truth: Path, n_frames: int, first: int) -> float:
    overlaps = []
    for index in range(0, n_frames, MASK_EVERY):
        found = _read(dataset / "head" / f"{index:06d}.png", cv2.IMREAD_GRAYSCALE)
        true = _read(truth / "head" / f"{first + index:06d}.png", cv2.IMREAD_GRAYSCALE)
        true = cv2.resize(true, found.shape[::-1], interpolation=cv2.INTER_AREA)
        overlaps.append(((found > 127) & (true > 127)).sum() / ((found > 127) | (true > 127)).sum())
    return float(np.mean(overlaps))


def _background_psnr(dataset: Path, truth: Path, size: int) -> float:
    """PSNR over the pixels at which the background is visible in at least one frame, with the margin of the background estimation."""
    found, true = (_read(folder / "background.png").astype(np.float64) for folder in (dataset, truth))
    true = cv2.resize(true, (size, size), interpolation=cv2.INTER_AREA)
    distance = np.zeros((size, size), np.float32)
    for path in sorted((dataset / "torso").iterdir())[::MASK_EVERY]:
        head = _read(dataset / "head" / path.name, cv2.IMREAD_GRAYSCALE)
        torso = _read(path, cv2.IMREAD_UNCHANGED)[..., 3]
        free = ((head < 26) & (torso < 26)).astype(np.uint8)
        distance = np.maximum(distance, cv2.distanceTransform(free, cv2.DIST_L2, cv2.DIST_MASK_PRECISE))
    visible = distance > 10.0 * size / REFERENCE_SIZE
    return float(10.0 * np.log10(255.0**2 / max(((found - true)[visible] ** 2).mean(), 1e-9)))


def _read(path: Path, mode: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """Reads an image; raises FileNotFoundError if it is missing or damaged."""
    image = cv2.imread(str(path), mode)
    if image is None:
        raise FileNotFoundError(path)
    return image


# -------- Speed and memory

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("square", "portrait", "long", "clips")
VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=ROOT / "docs/figures/prepare.json", help="file to update (default %(default)s)")
    parser.add_argument("--avatar", type=Path, help="folder of `geneface avatar video` (default: rendered first)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of square and portrait (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of long (default %(default)s)")
    parser.add_argument("--clips", type=Path, help="folder of real videos")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run (default: all)")
    args = parser.parse_args()
    result = read_json(args.json) if args.json.exists() else {}
    result["machine"] = f"{platform.machine()}, {os.cpu_count()} CPU cores, Python {platform.python_version()}"
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        avatar = args.avatar
        if avatar is None and set(args.only) - {"clips"}:
            avatar = scratch / "avatar"
            run([sys.executable, "-m", "geneface_jax", "avatar", "video", "--out", str(avatar), "--seconds", str(args.seconds)])
        trim = f"0-{args.seconds:g}"
        if "square" in args.only:
            video = avatar / "video.mp4"
            figures = timed(video, scratch / "square", ["--size", "512", "--trim", trim])
            result["square"] = figures | {"accuracy": rounded(measure_accuracy(scratch / "square" / "dataset", avatar))}
        if "portrait" in args.only:
            video = scratch / "portrait.mp4"
            fit = "scale=1080:1080:flags=lanczos,pad=1080:1920:0:420:color=gray"
            run([ffmpeg_executable(), "-v", "error", "-i", f"file:{(avatar / 'video.mp4').absolute()}", "-t", f"{args.seconds:g}",
                 "-vf", fit, "-c:a", "copy", "-crf", "18", str(video)])  # fmt: skip
            result["portrait"] = timed(video, scratch / "portrait", ["--size", "512"])
        if "long" in args.only:
            video = scratch / "long.mp4"
            run([ffmpeg_executable(), "-v", "error", "-stream_loop", "-1", "-i", f"file:{(avatar / 'video.mp4').absolute()}",
                 "-t", f"{60 * args.minutes:g}", "-c", "copy", str(video)])  # fmt: skip
            # The head jumps at each repetition, which is reported but not refused.
            result["long"] = timed(video, scratch / "long", ["--size", "512"]) | {"minutes": args.minutes}
        if "clips" in args.only and args.clips:
            clips = sorted(path for path in args.clips.iterdir() if path.suffix in VIDEOS)
            result["clips"] = {path.name: timed(path, scratch / path.stem, ["--size", "512"]) for path in clips}
    print(write_json(args.json, result).read_text(encoding="utf-8"))


def timed(video: Path, out: Path, options: list[str]) -> dict:
    """Prepares a video in a new process without the feature cache; returns its figures, or the error sentence as "refused"."""
    command = [sys.executable, "-m", "geneface_jax", "prepare", str(video), "--out", str(out), *options]
    print("+", " ".join(command), flush=True)
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "GENEFACE_FEATURE_CACHE": "off"}, stderr=subprocess.PIPE, text=True)
    peak = [0]
    threading.Thread(target=record_peak_memory, args=(process.pid, peak), daemon=True).start()
    messages = process.communicate()[1]
    seconds = time.perf_counter() - started
    info = probe(video)
    facts = {"width": info.width, "height": info.height, "clip_seconds": round(info.seconds, 2)}
    if process.returncode != 0:
        return facts | {"refused": messages.strip().splitlines()[-1]}
    report = read_json(out / "dataset" / "report.json")
    frames = round(report["values"]["seconds"] * 25)
    cpu = report["cpu_seconds_per_step"]
    return facts | {
        "frames": frames,
        "seconds": round(seconds, 1),
        "frames_per_second": round(frames / seconds, 2),
        "cpu_seconds": round(sum(cpu.values()), 1),
        "frames_per_cpu_second": round(frames / sum(cpu.values()), 2),
        "peak_memory_gb": round(peak[0] / 1e9, 2),
        "seconds_per_step": report["seconds_per_step"],
        "cpu_ms_per_frame": {step: round(1000.0 * value / frames, 2) for step, value in cpu.items()},
        "changes": report["changes"],
        "not_good": {name: report["values"][name] for name, light in report["lights"].items() if light in ("usable", "poor")},
    }


def record_peak_memory(pid: int, peak: list[int]) -> None:
    """Stores the maximum of the resident memory of a process and its children in `peak[0]`, sampled ten times a second."""
    try:
        process = psutil.Process(pid)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            processes = [process, *process.children(recursive=True)]
            peak[0] = max(peak[0], sum(memory_of(p) for p in processes))
            time.sleep(0.1)
    except psutil.Error:
        return


def memory_of(process: psutil.Process) -> int:
    """Resident bytes; 0 if the process has ended."""
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}


def run(command: list[str]) -> None:
    print("+", " ".join(command), flush=True)
    subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
