"""A person's data as GeneFace and GeneFace++ leave it, made up: `trainval_dataset.npy` and the processed folder with its pictures."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from data_tools.landmarks68 import LANDMARKS_68, mean_face
from geneface_jax.rendering.cameras import project


def write_person(root: Path, *, plus: bool, frames: int = 22, size: int = 32, channels: int = 1024, seed: int = 0) -> SimpleNamespace:
    """Writes `root/data/{binary,processed}/videos/May`.

    Args:
      root: where the original's repository would be.
      plus: as GeneFace++ does.

    Returns:
      the truth: `npy`, `processed` (paths), `mean_face`, `motion`, `basis`, `offset`, `cameras`, `intrinsics`, `landmarks_2d`, `n_train`.
    """
    rng = np.random.default_rng(seed)
    binary, processed = (root / "data" / kind / "videos" / "May" for kind in ("binary", "processed"))
    binary.mkdir(parents=True)
    n_train = frames // 11 * 10 if plus else frames * 10 // 11
    face = mean_face() + 0.05 * rng.normal(size=(68, 3)).astype(np.float32)
    expression = rng.normal(size=(frames, 64)).astype(np.float32)
    basis, offset = 0.03 * rng.normal(size=(64, 68, 3)), 0.3 * rng.normal(size=(68, 3))
    motion = (np.einsum("te,epc->tpc", expression, basis) + offset).astype(np.float32)
    cameras = np.tile(np.eye(4), (frames, 1, 1))
    angle = 0.3 * np.sin(np.arange(frames))
    cameras[:, 0, 0] = cameras[:, 2, 2] = np.cos(angle)
    cameras[:, 0, 2], cameras[:, 2, 0] = np.sin(angle), -np.sin(angle)
    cameras[:, :3, 3] = 0.9 * cameras[:, :3, 2]
    focal = 1015.0 / 112.0 * size / 2.0
    intrinsics = np.array([focal, focal, size / 2.0, size / 2.0])
    landmarks = project((motion / 10.0 + face) / 10.0, cameras, intrinsics)
    background = rng.integers(0, 255, (size, size, 3)).astype(np.uint8)

    names = _names(processed, plus)
    samples = [_sample(i, names, motion, cameras, size, plus) for i in range(frames)]
    values = {
        "hubert": rng.normal(size=(2 * frames - 1, channels)).astype(np.float32),
        "mel": np.zeros((2 * frames, 80), np.float32),
        "f0": np.full(2 * frames + 1, 120.0),
        "H": size,
        "W": size,
        "train_samples": samples[:n_train],
        "val_samples": samples[n_train:],
    }
    if plus:
        values |= {"bg_img": background, "focal": 1015, "cx": 112, "cy": 112, "id": np.zeros((1, 80), np.float32), "exp": expression}
        values |= {"euler": np.zeros((frames, 3)), "trans": np.zeros((frames, 3)), "idexp_lm3d": motion.reshape(frames, 204)}
        values |= {"idexp_lm3d_mean": motion.reshape(frames, 204).mean(0), "idexp_lm3d_std": motion.reshape(frames, 204).std(0)}
        values["eye_area_percent"] = (0.6 - 0.4 * (np.arange(frames) % 9 == 4)).astype(np.float32)
    else:
        values |= {"bc_img": background, "focal": focal, "cx": size / 2.0, "cy": size / 2.0}
        values |= {"idexp_lm3d_mean": motion.mean(0)[None], "idexp_lm3d_std": motion.std(0)[None]}
    save(binary / "trainval_dataset.npy", values)
    _write_pictures(processed, plus, frames, size, background, landmarks, names)
    return SimpleNamespace(
        npy=binary / "trainval_dataset.npy",
        processed=processed,
        values=values,
        mean_face=face,
        motion=motion,
        basis=basis,
        offset=offset,
        cameras=cameras,
        intrinsics=intrinsics,
        landmarks_2d=landmarks,
        n_train=n_train,
        background=background,
    )


def save(path: Path, values: object) -> Path:
    """As the originals' binarizers save."""
    np.save(path, values, allow_pickle=True)  # type: ignore[arg-type]
    return path


def _names(processed: Path, plus: bool):
    """Kind -> function from a frame's number to the name in the file, relative to the original's repository."""
    base = "data/processed/videos/May"
    if plus:
        folders = {"gt": "com_imgs/%08d.jpg", "head": "head_imgs/%08d.png", "torso": "inpaint_torso_imgs/%08d.png"}
    else:
        folders = {"gt": "gt_imgs/%d.jpg", "head": "head_imgs/%d.jpg", "torso": "torso_imgs/%d.png", "parsing": "parsing/%d.png"}
    return {kind: lambda i, pattern=pattern: f"{base}/{pattern % i}" for kind, pattern in folders.items()}


def _sample(i, names, motion, cameras, size, plus):
    sample = {"idx": i, "c2w": cameras[i]}
    sample |= {f"{kind}_img_fname": name(i) for kind, name in names.items() if kind != "parsing"}
    if plus:
        lip = [size // 3, 2 * size // 3, size // 2, 3 * size // 4]
        return sample | {"face_rect": np.array([size // 4, 3 * size // 4, size // 8, size // 2]), "lip_rect": lip}
    sample |= {"parsing_fname": names["parsing"](i), "face_rect": np.array([size // 4, size // 8, size // 2, size // 4])}
    return sample | {"idexp_lm3d": motion[i], "identity": np.zeros(80, np.float32), "exp": np.zeros(64, np.float32)}


def _write_pictures(processed, plus, frames, size, background, landmarks, names):
    for name in names.values():
        (processed.parents[3] / name(0)).parent.mkdir(parents=True)
    rows, columns = np.mgrid[:size, :size]
    head = (rows - size / 2) ** 2 + (columns - size / 2) ** 2 < (size / 4) ** 2
    picture = np.where(head[..., None], 180, background).astype(np.uint8)
    torso = np.zeros((size, size, 4), np.uint8)
    torso[3 * size // 4 :] = (30, 40, 160, 255)
    parsing = np.full((size, size, 3), 255, np.uint8)
    parsing[3 * size // 4 :] = (255, 0, 0)
    parsing[head] = (0, 0, 255)
    cut = np.dstack([np.where(head[..., None], 180, 0), np.where(head, 255, 0)]).astype(np.uint8)
    pictures = {"gt": picture, "head": cut if plus else picture, "torso": torso, "parsing": parsing}
    first = {}
    for kind, name in names.items():
        first[kind] = processed.parents[3] / name(0)
        Image.fromarray(pictures[kind]).save(first[kind], **({"quality": 98, "subsampling": 0} if first[kind].suffix == ".jpg" else {}))
        for i in range(1, frames):
            shutil.copyfile(first[kind], processed.parents[3] / name(i))
    if plus:
        points = np.zeros((frames, 478, 2), np.float32)
        points[:, LANDMARKS_68] = landmarks
        np.save(processed / "lms_2d.npy", points)
    else:
        (processed / "ori_imgs").mkdir()
        for i in range(frames):
            np.savetxt(processed / "ori_imgs" / f"{i}.lms", landmarks[i], fmt="%f")
    (processed / "aud.wav").write_bytes(_silence(frames))


def _silence(frames):
    import io

    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(frames * 640, np.int16), 16000, format="WAV")
    return buffer.getvalue()
