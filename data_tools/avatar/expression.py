"""From parameters to the 468 vertices: jaw, lips, lids and brows.

Only some vertices (handles: lips, jaw line, lids, brows, and anchors that stay) are moved by rule. All others follow by one matrix, the
bi-Laplacian interpolation of the handles' displacements over the mesh, solved once per process.
"""

from __future__ import annotations

import functools

import numpy as np

from data_tools.avatar import topology as topo
from data_tools.avatar.visemes import PARAMETERS

JAW_HINGE = np.array([0.0, 0.0, -2.0])
"""cm; the axis through it runs along x, a finger in front of the ears."""

JAW_FULL_ANGLE = np.deg2rad(15.0)
NARROW, SPREAD = 0.34, 0.16
"""Relative change of the lips' width at wide = -1 and +1."""

PROTRUSION, UPPER_RAISE, LOWER_DROP, TUCK_BACK = 0.75, 0.32, 0.42, 0.35
"""cm at full parameter value."""

BROW_RAISE = 0.45
LID_GAP_CLOSED = 0.02
"""Share of the lid gap that is left when the eye is shut."""

_JAW_SHARE = (0.02, 0.12, 0.4, 0.7, 0.9, 1.0, 1.0, 1.0, 1.0, 1.0, 0.9, 0.7, 0.4, 0.12, 0.02)


@functools.cache
def _handles() -> tuple[np.ndarray, np.ndarray]:
    """Sorted handle vertices [H] and the matrix [468, H] that spreads their displacements over the mesh."""
    named: list[int] = [*topo.ANCHORS, *topo.JAW_LINE, *topo.CHIN]
    groups = (topo.UPPER_LIDS, topo.LOWER_LIDS, topo.UPPER_CREASES, topo.LOWER_CREASES, topo.SOCKETS)
    named += [i for group in groups for loop in group for i in loop]
    named += [i for brow in topo.BROWS for edge in brow for i in edge]
    for loop in (topo.OUTER_UPPER_LIP, topo.OUTER_LOWER_LIP, topo.INNER_UPPER_LIP, topo.INNER_LOWER_LIP):
        named += loop
    handles = np.unique(named)
    free = np.setdiff1d(np.arange(468), handles)
    laplacian = topo.neighbours_matrix()
    energy = laplacian @ laplacian + 0.3 * laplacian  # a little membrane keeps the plate from overshooting
    spread = np.zeros((468, len(handles)))
    spread[handles, np.arange(len(handles))] = 1.0
    spread[free] = -np.linalg.solve(energy[np.ix_(free, free)], energy[np.ix_(free, handles)])
    return handles, spread


def face_vertices(rest: np.ndarray, mouth: np.ndarray, blink: np.ndarray, brow: np.ndarray) -> np.ndarray:
    """Poses a face.

    Args:
      rest: [468, 3] cm from `identity.rest_vertices`.
      mouth: [T, 8] in the order of `visemes.PARAMETERS`.
      blink: [T] 0 open .. 1 shut.
      brow: [T] -1 lowered .. 1 raised.

    Returns:
      [T, 468, 3] float32 cm in the canonical head frame.
    """
    handles, spread = _handles()
    n_frames = len(mouth)
    target = np.repeat(rest[None], n_frames, axis=0)
    _move_jaw(target, rest, mouth[:, PARAMETERS.index("jaw")])
    _move_lips(target, rest, {name: mouth[:, i, None] for i, name in enumerate(PARAMETERS)})
    _move_lids(target, rest, np.asarray(blink, np.float64)[:, None])
    _move_brows(target, np.asarray(brow, np.float64))
    displacement = (target - rest)[:, handles]
    return (rest + np.einsum("vh,thc->tvc", spread, displacement)).astype(np.float32)


def jaw_rotation(points: np.ndarray, opening: np.ndarray) -> np.ndarray:
    """Turns [P, 3] points about the jaw's hinge by opening ([T] or [T, P], 1 = fully open): [T, P, 3]."""
    angle = np.asarray(opening, np.float64) * JAW_FULL_ANGLE
    angle = angle[:, None] if angle.ndim == 1 else angle
    y, z = points[:, 1] - JAW_HINGE[1], points[:, 2] - JAW_HINGE[2]
    turned_y = np.cos(angle) * y - np.sin(angle) * z
    turned_z = np.sin(angle) * y + np.cos(angle) * z
    x = np.broadcast_to(points[:, 0], turned_y.shape)
    return np.stack([x, turned_y + JAW_HINGE[1], turned_z + JAW_HINGE[2]], axis=-1)


def _move_jaw(target: np.ndarray, rest: np.ndarray, jaw: np.ndarray) -> None:
    """Jaw line, chin and lower lip; the lower lip's corners stay between the jaws."""
    for loop, share in ((topo.JAW_LINE, np.array(_JAW_SHARE)), (topo.CHIN, np.ones(len(topo.CHIN)))):
        target[:, list(loop)] = jaw_rotation(rest[list(loop)], jaw[:, None] * share)
    for upper, lower in ((topo.OUTER_UPPER_LIP, topo.OUTER_LOWER_LIP), (topo.INNER_UPPER_LIP, topo.INNER_LOWER_LIP)):
        along = np.linspace(-1.0, 1.0, 11)
        low = 0.32 + 0.68 * (1.0 - along**4)
        high = 0.32 * along**4
        target[:, list(upper)] = jaw_rotation(rest[list(upper)], jaw[:, None] * high)
        target[:, list(lower)] = jaw_rotation(rest[list(lower)], jaw[:, None] * low)


def _move_lips(target: np.ndarray, rest: np.ndarray, p: dict[str, np.ndarray]) -> None:
    """Lip shape on top of the jaw; `p` holds [T, 1] per parameter."""
    middle = 1.0 - np.abs(np.linspace(-1.0, 1.0, 11)) ** 2.5  # 1 in the middle of the lips, 0 at the corners
    width = 1.0 + np.where(p["wide"] < 0, NARROW, SPREAD) * p["wide"]
    loops = {
        "outer_upper": list(topo.OUTER_UPPER_LIP),
        "inner_upper": list(topo.INNER_UPPER_LIP),
        "outer_lower": list(topo.OUTER_LOWER_LIP),
        "inner_lower": list(topo.INNER_LOWER_LIP),
    }
    moved = {}
    for name, loop in loops.items():
        points = target[:, loop].copy()
        is_upper, is_outer = name.endswith("upper"), name.startswith("outer")
        points[..., 0] *= width
        # Narrow lips bunch forwards, spread ones are drawn back along the teeth.
        points[..., 2] += PROTRUSION * p["protrude"] * (0.45 + 0.55 * middle) * (0.75 if is_outer else 1.0)
        points[..., 2] -= 0.25 * np.maximum(p["wide"], 0.0) * (1.0 - middle)
        points[..., 1] += 0.12 * np.maximum(p["wide"], 0.0) * (1.0 - middle)
        if is_upper:
            points[..., 1] += UPPER_RAISE * p["upper"] * middle
        else:
            points[..., 1] -= LOWER_DROP * p["lower"] * middle
        moved[name] = points
    _tuck(moved, rest, p["tuck"], middle)
    _close(moved, p["close"])
    for name, loop in loops.items():
        target[:, loop] = moved[name]


def _tuck(moved: dict[str, np.ndarray], rest: np.ndarray, tuck: np.ndarray, middle: np.ndarray) -> None:
    """Lower lip up and back until it touches the upper teeth, a slit below the upper lip."""
    goal = rest[list(topo.INNER_UPPER_LIP)] + np.stack([0 * middle, -0.16 * middle, -TUCK_BACK * middle], axis=-1)
    lift = tuck[..., None] * (goal - moved["inner_lower"]) * np.array([0.0, 1.0, 1.0]) * np.where(middle > 0, 1.0, 0.0)[:, None]
    moved["inner_lower"] += lift
    moved["outer_lower"] += 0.75 * lift


def _close(moved: dict[str, np.ndarray], close: np.ndarray) -> None:
    """Brings the inner lines together by `close` and never lets the lower one rise above the upper one."""
    upper, lower = moved["inner_upper"], moved["inner_lower"]
    gap = upper - lower
    gap[..., 1] = np.where(gap[..., 1] < 0, gap[..., 1], close * gap[..., 1])  # an overlap is always undone
    gap[..., 0] = 0.0
    gap[..., 2] *= close
    # The jaw carries the lower lip most of the way; the lips roll in a little when they press.
    press = 0.10 * close * (1.0 - np.abs(np.linspace(-1.0, 1.0, 11)) ** 2.5)
    moved["inner_upper"] = upper - 0.35 * gap
    moved["inner_lower"] = lower + 0.65 * gap
    moved["outer_upper"] += -0.3 * gap - np.stack([0 * press, press, 0 * press], axis=-1)
    moved["outer_lower"] += 0.6 * gap + np.stack([0 * press, press, 0 * press], axis=-1)


def _move_lids(target: np.ndarray, rest: np.ndarray, blink: np.ndarray) -> None:
    """The upper lid slides down over the eyeball to meet the lower one, which rises a little."""
    rows = zip(topo.UPPER_LIDS, topo.LOWER_LIDS, topo.UPPER_CREASES, topo.LOWER_CREASES, strict=True)
    for upper, lower, upper_crease, lower_crease in rows:
        upper, lower = list(upper), list(lower)
        gap = (rest[upper] - rest[lower]) * (1.0 - LID_GAP_CLOSED)
        bulge = np.sin(np.pi * np.linspace(0.0, 1.0, 9)) * 0.12  # the lid rides over the ball's front
        down = blink[..., None] * (-0.86 * gap)
        down[..., 2] += 4.0 * (blink * (1.0 - 0.75 * blink)) * bulge
        up = blink[..., None] * 0.14 * gap
        target[:, upper[1:-1]] = rest[upper[1:-1]] + down[:, 1:-1]
        target[:, lower[1:-1]] = rest[lower[1:-1]] + up[:, 1:-1]
        target[:, list(upper_crease)] = rest[list(upper_crease)] + 0.22 * down[:, 1:-1]
        target[:, list(lower_crease)] = rest[list(lower_crease)] + 0.3 * up[:, 1:-1]


def _move_brows(target: np.ndarray, brow: np.ndarray) -> None:
    share = np.array([0.5, 0.8, 1.0, 0.9, 0.7])  # from the outer end to the inner one
    for edges in topo.BROWS:
        for edge in edges:
            target[:, list(edge), 1] += BROW_RAISE * brow[:, None] * share
