"""Speed on a CPU against an earlier version, taking turns in one run: frames, a training step of the head, `infer` end to end. Writes JSON.

    git worktree add ../before a8d0ffc
    python scripts/bench/laptop.py --before ../before --json docs/figures/laptop.json \
        --case "256, old weights" OLD_PERSON OLD_PERSON TRUTH --case "256, new weights" OLD_PERSON NEW_PERSON TRUTH [--train DATASET]
    python scripts/bench/laptop.py --before ../before --json docs/figures/laptop.json --rays adaptive --case "512" OLD NEW TRUTH

A case has a name, the person that the earlier version renders, the one that this version renders (a folder with dataset/, head/ and
usually torso/; `geneface bake` makes its cull), and a full dataset of the person, on whose held-out frames (all frames, if the person was
trained on another dataset) both are scored by the head protocol. With `--rays adaptive` this version renders with adaptive rays, and those
pictures are also compared with the ones of all rays (PSNR of the head, LPIPS around mouth and eyes, both against the truth).

Each side is a process of its own that keeps its person in memory; they render the same motion in turns of a second or two. Reported
are the fastest turn of each and the median ratio of neighboring turns: on a machine that others use, too, both sides are slowed. Frames are
head and torso over the background, 8-bit RGB, without H.264. Huge pages are on for both sides, as in every verb.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
HUGE_PAGES = "glibc.malloc.hugetlb=1"
SCORED = 150
"""Most frames that are scored."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="working tree of the earlier version")
    parser.add_argument("--case", nargs=4, action="append", default=[], metavar=("NAME", "BEFORE", "NOW", "TRUTH"), help="persons")
    parser.add_argument("--rays", default="trained", help="rays of this version: trained or adaptive (default %(default)s)")
    parser.add_argument("--train", type=Path, help="dataset for the training step of the head at demo size")
    parser.add_argument("--speech", type=Path, help="recording for `infer` end to end with the persons of the first case")
    parser.add_argument("--turns", type=int, default=8, help="turns of each side (default %(default)s)")
    parser.add_argument("--frames", type=int, default=40, help="frames of a turn (default %(default)s)")
    parser.add_argument("--json", type=Path, required=True, help="file to write; results of earlier runs in it are kept")
    args = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]
    from data_tools.io import write_json

    result: dict[str, Any] = json.loads(args.json.read_text(encoding="utf-8")) if args.json.is_file() else {}
    result["machine"] = f"{platform.machine()}, {os.cpu_count()} CPU cores, Python {platform.python_version()}"
    result["before"] = subprocess.run(
        ["git", "-C", args.before, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    for name, before, now, truth in args.case:
        found = compare_frames(args.before, before, now, args.turns, args.frames, args.rays)
        result.setdefault("frames", {})[name] = found
        write_json(args.json, result)
        found["pictures"] = {
            "before": pictures(Path(before), Path(truth), culled=False, rays="full"),
            "now": pictures(Path(now), Path(truth), culled=True, rays=args.rays),
        }
        if args.rays != "trained":
            found["pictures"]["now, all rays"] = pictures(Path(now), Path(truth), culled=True, rays="trained")
        print(name, json.dumps(result["frames"][name]), flush=True)
        write_json(args.json, result)
    if args.train:
        result["training"] = compare_training(args.before, args.train, args.turns)
        print("training", json.dumps(result["training"]), flush=True)
        write_json(args.json, result)
    if args.speech:
        _, before, now, _ = args.case[0]
        result["infer"] = compare_infer(args.before, Path(before), Path(now), args.speech)
        print("infer", json.dumps(result["infer"]), flush=True)
        write_json(args.json, result)


# -------- The two sides, each a process that takes turns on request


class Side:
    """A worker process of one version: `turn()` does some work and returns what it measured."""

    def __init__(self, tree: Path, *command: str):
        environment = {
            **os.environ,
            "PYTHONPATH": f"{tree}{os.pathsep}{tree / 'kernels'}",
            "GLIBC_TUNABLES": HUGE_PAGES,
            "JAX_PLATFORMS": "cpu",
        }
        script = [sys.executable, __file__, "--worker", str(tree.resolve()), *command]
        self._process = subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=tree)
        self.facts = self._answer()

    def turn(self) -> dict[str, Any]:
        """Asks for one turn and waits for it."""
        assert self._process.stdin is not None
        self._process.stdin.write("turn\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate("")

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"the worker {self._process.args} ended")


def turns(before: Side, now: Side, count: int) -> dict[str, Any]:
    """Seconds of the fastest turns of both sides and their ratio; the sides alternate."""
    seconds: dict[str, list[float]] = {"before": [], "now": []}
    for _ in range(count):
        for name, side in (("before", before), ("now", now)):
            seconds[name].append(side.turn()["seconds"])
    best = {name: min(found) for name, found in seconds.items()}
    ratios = np.array(seconds["before"]) / np.array(seconds["now"])
    return {**best, "speedup": best["before"] / best["now"], "median_speedup": float(np.median(ratios))}


def compare_frames(tree: Path, before: str, now: str, count: int, frames: int, rays: str) -> dict[str, Any]:
    """Frames per second of both versions, and the samples and scores of this one."""
    ours = Side(ROOT, "frames", str(Path(now).resolve()), str(frames), *([rays] if rays != "trained" else []))
    sides = Side(tree, "frames", str(Path(before).resolve()), str(frames)), ours
    found = turns(*sides, count)
    for side in sides:
        side.close()
    return {
        "size": sides[1].facts["size"],
        "frames_per_second": {"before": round(frames / found["before"], 2), "now": round(frames / found["now"], 2)},
        "speedup": round(found["speedup"], 2),
        "median_speedup": round(found["median_speedup"], 2),
        "facts": {"before": sides[0].facts, "now": sides[1].facts},
    }


def pictures(person: Path, truth: Path, *, culled: bool, rays: str) -> dict[str, Any]:
    """Scores of a person's head over the true torso (PSNR in dB and LPIPS by region, mouth LMD in pixels), and samples per head pixel.

    What the earlier version renders is rendered by this one without a cull and with all rays: the pictures are the same.
    """
    import dataclasses

    from geneface_jax.data.subject import Subject
    from geneface_jax.evaluation.heldout import full_clip_target, heldout_target, score_render, torso_over_background
    from geneface_jax.evaluation.metrics import Perceptual
    from geneface_jax.inference.renderer import SubjectRenderer

    subject = Subject.load(truth)
    renderer = SubjectRenderer.load(person, torso=False, culled=culled)
    target = heldout_target(subject) if subject.fingerprint == renderer.subject.fingerprint else full_clip_target(subject)
    frames = range(target.frames.start, min(target.frames.stop, target.frames.start + SCORED))
    target, at = dataclasses.replace(target, frames=frames), slice(frames.start, frames.stop)
    background = np.stack([torso_over_background(subject, frame) for frame in frames])
    rendered = renderer.render(subject.motion[at], subject.cameras[at], subject.eye_openness[at], background=background, rays=rays)
    images = list(rendered)
    scores = score_render(target, iter(images), perceptual=Perceptual.find(None))
    regions = {
        region: {name: round(value, 4) for name, value in found.items() if name in ("psnr", "lpips")}
        for region, found in scores["pixels"].items()
    }
    for part, box in (("mouth box", MOUTH_BOX), ("eyes box", EYES_BOX)):
        regions[part] = {"lpips": round(box_lpips(subject, target, images, box), 4)}
    return {"frames": len(frames), **regions, "mouth LMD": round(scores["landmarks"]["lmd"], 3), **samples_per_ray(renderer, rays)}


MOUTH_BOX, EYES_BOX = slice(48, 68), slice(36, 48)


def box_lpips(subject: Any, target: Any, images: list[np.ndarray], points: slice) -> float:
    """Mean LPIPS of a box around landmarks: rendered against true pixels, both over the true torso."""
    from geneface_jax.evaluation.metrics import Perceptual
    from geneface_jax.rendering.cameras import project

    perceptual, values, frames = Perceptual.find(None), [], target.frames
    landmarks = (subject.motion[frames.start : frames.stop].reshape(-1, 68, 3) / 10.0 + subject.mean_face) / 10.0
    places = project(landmarks, subject.cameras[frames.start : frames.stop], np.asarray(subject.intrinsics))[:, points]
    side = max(int(1.4 * np.ptp(places, axis=1).max()), 32)  # one shape, so that one program is compiled
    for frame, image, place in zip(frames, images, places, strict=True):
        first = np.clip(place.mean(axis=0) - side / 2, 0, subject.size - side).astype(int)
        rows, columns = (slice(int(at), int(at) + side) for at in (first[1], first[0]))
        values.append(perceptual.distance(image[rows, columns], target.truth(frame)[rows, columns]))
    return float(np.mean(values))


def samples_per_ray(renderer: Any, rays: str) -> dict[str, float]:
    """Samples of each ray that meets the head, over some training frames."""
    import geneface_jax.inference.renderer as module

    counted: list[tuple[int, int]] = []
    subject, some = renderer.subject, slice(0, renderer.subject.n_train, max(renderer.subject.n_train // 10, 1))

    def counting(render: Any) -> Any:
        def run(*args: Any, **options: Any) -> Any:
            out = render(*args, **options)
            counted.append((int(out.samples), int((np.asarray(out.alpha) > 0).sum())))
            return out

        return run

    plain = module.render_heads, module.render_heads_adaptively
    module.render_heads, module.render_heads_adaptively = map(counting, plain)
    try:
        for _ in renderer.render(subject.motion[some], subject.cameras[some], subject.eye_openness[some], rays=rays):
            pass
    finally:
        module.render_heads, module.render_heads_adaptively = plain
    samples, hit = np.sum(counted, axis=0)
    return {"samples per pixel of the head": round(float(samples / hit), 2)}


def compare_training(tree: Path, dataset: Path, count: int) -> dict[str, Any]:
    """Updates per second of the head at demo size, after its first updates and near its end."""
    sides = Side(tree, "training", str(dataset.resolve())), Side(ROOT, "training", str(dataset.resolve()))
    found = turns(*sides, count)
    for side in sides:
        side.close()
    steps = sides[0].facts["steps"]
    return {
        "updates_per_second": {"before": round(steps / found["before"], 2), "now": round(steps / found["now"], 2)},
        "speedup": round(found["speedup"], 2),
        "median_speedup": round(found["median_speedup"], 2),
    }


def compare_infer(tree: Path, before: Path, now: Path, speech: Path) -> dict[str, Any]:
    """Seconds of `geneface infer`, start and H.264 included: cold (nothing compiled before), then warm (the second run)."""
    found: dict[str, Any] = {}
    for name, root, person in (("before", tree, before), ("now", ROOT, now)):
        with tempfile.TemporaryDirectory() as home:
            environment = {"PATH": os.environ["PATH"], "HOME": home, "PYTHONPATH": f"{root}{os.pathsep}{root / 'kernels'}"}
            command = [sys.executable, "-m", "geneface_jax", "infer", "--subject", str(person.resolve()), "--audio", str(speech.resolve())]
            for state in ("cold", "warm", "warm again"):
                started = time.perf_counter()
                subprocess.run([*command, "--out", f"{home}/talk.mp4"], check=True, env=environment, cwd=root, stdout=subprocess.DEVNULL)
                found.setdefault(state, {})[name] = round(time.perf_counter() - started, 1)
    warm = {name: min(found["warm"][name], found["warm again"][name]) for name in ("before", "now")}
    share = {"cold": found["cold"]["now"] / found["cold"]["before"], "warm": warm["now"] / warm["before"]}
    return {**found, "share": {name: round(value, 2) for name, value in share.items()}}


# -------- Inside a worker: only what both versions have


def worker(argv: list[str]) -> None:
    """Runs a side: `TREE frames PERSON COUNT` or `TREE training DATASET`; prints its facts, then one line per turn."""
    tree, kind, *arguments = argv
    sys.path[:0] = [tree, str(Path(tree) / "kernels")]
    turn, facts = {"frames": frames_turn, "training": training_turn}[kind](*arguments)
    turn()
    print(json.dumps(facts), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        turn()
        print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)


def frames_turn(person: str, count: str, *rays: str) -> tuple[Any, dict[str, Any]]:
    """Renders the first `count` held-out frames of a person; `rays` only where they are not the trained ones."""
    from geneface_jax.inference.renderer import SubjectRenderer

    renderer = SubjectRenderer.load(person, torso=(Path(person) / "torso").is_dir())
    subject = renderer.subject
    frames = slice(subject.n_train, subject.n_train + int(count))
    options = {"rays": rays[0]} if rays else {}

    def turn() -> None:
        for _ in renderer.render(subject.motion[frames], subject.cameras[frames], subject.eye_openness[frames], **options):
            pass

    return turn, {"person": Path(person).name, "size": subject.size, "torso": renderer.torso is not None}


STEPS = 48
"""Updates of a turn of training: three updates of the occupancy grid."""


def training_turn(dataset: str) -> tuple[Any, dict[str, Any]]:
    """Continues the training of a head of the variant demo by `STEPS` updates, batches included, which a thread prepares as in training."""
    from concurrent.futures import ThreadPoolExecutor

    import jax

    from geneface_jax.io import configs
    from geneface_jax.training import devices
    from geneface_jax.training.stages.head import HeadStage

    stage = HeadStage(configs.load("head:demo", [f"data.subject={dataset}"]))
    state, data = devices.replicate(stage.init(jax.random.key(0))), devices.replicate(stage.data())
    step_fn, key, pool, at = devices.parallel_step(stage.train_step), devices.put_everywhere(jax.random.key(1)), ThreadPoolExecutor(1), [0]

    def inputs(step: int) -> Any:
        return devices.put(stage.host_batch(step)), devices.put_everywhere(np.int32(step))

    ahead = [pool.submit(inputs, step) for step in range(2)]

    def turn() -> None:
        nonlocal state
        for _ in range(STEPS):
            batch, number = ahead.pop(0).result()
            ahead.append(pool.submit(inputs, at[0] + 2))
            state, metrics = step_fn(state, data, batch, key, number)
            jax.block_until_ready(metrics)
            at[0] += 1

    return turn, {"steps": STEPS}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2:])
    else:
        main()
