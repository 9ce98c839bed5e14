"""Reports: the figures of `geneface evaluate` as tables (rich) and as JSON."""

import math
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from geneface_jax.evaluation import heldout
from geneface_jax.evaluation.metrics import LPIPS_UNAVAILABLE

# -------- Rows and tables

WIDTH = 140
"""Columns of a table that is not printed to a terminal; a terminal's own width is used."""

REGIONS = ("face hull", "head", "mouth", "neck band", "frame")


def pixel_table(title: str, methods: Mapping[str, Mapping[str, Mapping[str, float]]], caption: str) -> Table:
    """One row per region with its mean number of pixels, one column per method with PSNR in dB, SSIM and, if measured, LPIPS.

    `methods` is method -> region -> scores, as `scores.PixelScores.summary` gives.
    """
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("region")
    table.add_column("pixels", justify="right")
    for method in methods:
        measured = any("lpips" in figures for figures in methods[method].values())
        table.add_column(f"{method}\ndB  SSIM" + ("  LPIPS" if measured else ""), justify="right")
    for region in REGIONS:
        found = [figures.get(region) for figures in methods.values()]
        if any(found):
            pixels = next(figures["pixels"] for figures in found if figures)
            table.add_row(region, f"{pixels:,.0f}", *(_cell(figures) for figures in found))
    return table


def _cell(figures: Mapping[str, float] | None) -> str:
    if not figures:
        return ""
    lpips = f" {figures['lpips']:.4f}" if "lpips" in figures else ""
    return f"{figures['psnr']:.2f} {figures['ssim']:.3f}{lpips}"


def seam_rows(composite: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """PSNR of the composite in the neck band, where head and torso meet, and of its head."""
    if "neck band" not in composite:
        return {"neck band": "n/a (head and torso do not meet in these frames)"}
    band, head = composite["neck band"]["psnr"], composite["head"]["psnr"]
    return {"composite, 16 px band around the neck (head)": f"{band:.2f} dB ({head:.2f} dB, {band - head:+.2f})"}


def smoothing_rows(summary: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """`scores.smoothing_report` as rows."""

    def words(figures: Mapping[str, float]) -> str:
        return f"{figures['rotation_degrees']:.3f} degrees, {figures['translation_mm']:.2f} mm, {figures['pixels']:.3f} px"

    return {"head pose jitter of the dataset": words(summary["after"]), "the same before smoothing": words(summary["before"])}


def speed_rows(summary: Mapping[str, Mapping[str, Any] | None]) -> dict[str, str]:
    """`scores.frames_per_second` by name, as rows."""
    rows = {}
    for name, figures in summary.items():
        if figures:
            conditions = f"{figures['device']}, {figures['cores']} cores, {figures['frames']} frames"
            rows[f"frames per second, {name}"] = f"{figures['frames_per_second']:.1f} ({conditions})"
    return rows


def sync_rows(summary: Mapping[str, Any]) -> dict[str, str]:
    """The sync AUC of `motion.evaluate_motion` as a row."""
    if "sync_auc" not in summary:
        return {"sync AUC": "n/a (name a SyncNet with --syncnet DIR)"}
    return {"sync AUC of the landmarks from audio (truth)": f"{summary['sync_auc']:.3f} ({summary['truth_sync_auc']:.3f})"}


def value_table(title: str, rows: Mapping[str, str], caption: str = "") -> Table:
    """Two columns, name and value, without a header."""
    table = Table(title=title, caption=caption or None, show_header=False, title_justify="left", caption_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def landmark_rows(summary: Mapping[str, Any]) -> dict[str, str]:
    """`scores.landmark_summary` as rows."""
    if not summary["frames"]:
        return {"frames with both faces found": "0"}
    return {
        "mouth LMD (MediaPipe on both, nose aligned)": f"{summary['lmd']:.2f} px",
        "mouth opening, correlation at zero lag": f"{summary['mouth_correlation']:.3f}",
        "mouth opening, best correlation": f"{summary['mouth_best_correlation']:.3f} at {summary['mouth_best_lag']:+d} frames",
        "eye openness, correlation at zero lag": f"{summary['eye_correlation']:.3f}",
        "blinks (truth)": f"{summary['blinks']} ({summary['truth_blinks']})",
        "landmark jitter (truth)": f"{summary['jitter']:.2f} px ({summary['truth_jitter']:.2f} px)",
        "frames with both faces found": f"{summary['frames']}",
        "frames without a face": f"{summary['frames_without_face']}",
    }


def envelope_rows(summary: Mapping[str, Any]) -> dict[str, str]:
    """`compare.video_against_audio` as rows."""
    return {
        "mouth opening and audio envelope, zero lag": f"{summary['correlation']:.3f}",
        "best lag": f"{summary['best']:.3f} at {summary['best_lag']:+d} frames",
        "control: envelope shuffled in 1 s blocks": f"{summary['shuffled']:.3f} (95 % below {summary['shuffled_95']:.3f})",
        "frames without a face": f"{summary['frames_without_face']} of {summary['frames']}",
    }


def motion_rows(summary: Mapping[str, Any]) -> dict[str, str]:
    """`motion.evaluate_motion` as rows."""
    rows = {
        "mouth motion LMD, clip means subtracted": f"{summary['mouth_lmd_mm']:.2f} mm",
        "a mouth that does not move": f"{summary['no_motion_mm']:.2f} mm (ratio {summary['ratio_to_no_motion']:.2f})",
        "mouth opening, correlation at zero lag": f"{summary['mouth_correlation']:.3f}",
        "mouth opening, best correlation": f"{summary['mouth_best_correlation']:.3f} at {summary['mouth_best_lag']:+d} frames",
        "mouth opening, driven by other sound of this voice": f"{summary['other_sound_correlation']:.3f}",
        "mouth opening, amplitude": f"{summary['mouth_amplitude']:.2f} of the truth's",
        "landmark jitter (truth)": f"{summary['jitter_mm']:.3f} mm ({summary['truth_jitter_mm']:.3f} mm)",
    }
    if "sync_auc" in summary:
        rows["sync AUC (truth)"] = f"{summary['sync_auc']:.3f} ({summary['truth_sync_auc']:.3f})"
    return rows


def show(*tables: Table) -> None:
    """Prints tables to standard output."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    for table in tables:
        console.print(table)


def to_json(value: Any) -> Any:
    """The report with JSON types only: non-finite numbers become null, ranges and paths text."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)


# -------- What `geneface evaluate` prints


def show_person(result: Mapping[str, Any]) -> None:
    """Prints the figures of `evaluate.evaluate`."""
    rows, (first, end), size = result["pixels"], result["frames"], result["size"]
    caption = f"Mean over {end - first} frames ({first} to {end - 1}) of {result['dataset']}, {size}x{size}, 8-bit RGB before H.264."
    values: dict[str, str] = {} if result["lpips"] else {"LPIPS": LPIPS_UNAVAILABLE}
    if "rendered" in rows:
        caption += f" Frames are {heldout.PROTOCOLS[result['protocol']]}; rendered: over the true torso and background"
        caption += "; composite: over the torso network and the one background." if "composite" in rows else "."
        version = "composite" if "composite" in rows else "rendered"
        if result["landmarks"][version]:
            values |= landmark_rows(result["landmarks"][version])
        values |= seam_rows(rows["composite"]) if "composite" in rows else {}
        values |= sync_rows(result["motion"]) if "motion" in result else {}
        values |= speed_rows(result["speed"])
    else:
        caption += " The head is not trained yet."
    values |= smoothing_rows(result["pose_jitter"])
    show(pixel_table("Unseen frames" if result["unseen"] else "Held-out frames", rows, caption))
    show(value_table("Rendered against true frames" if "rendered" in rows else "Poses", values))
    for name, path in result.get("videos", {}).items():
        print(f"true, {name}, difference (x4): {path}")


def show_speech(result: Mapping[str, Any]) -> None:
    """Prints the figures of `evaluate.evaluate_speech`."""
    first, end = result["frames"]
    caption = f"{end - first} frames ({first} to {end - 1}) of {result['dataset']}"
    show(value_table("Landmarks from audio", motion_rows(result["motion"]), caption))


def show_video(result: Mapping[str, Any]) -> None:
    """Prints the figures of `evaluate.evaluate_video`."""
    video = result["video"]
    if "truth" in result:
        caption = f"Mean over {result['frames']} frames, {result['size']}x{result['size']}, decoded video (after H.264)"
        caption += f"; {result['frames_left_out']} frames of the longer video left out." if result["frames_left_out"] else "."
        show(pixel_table(f"{video} against {result['truth']}", {"video": result["pixels"]}, caption))
        show(value_table("Landmarks", landmark_rows(result["landmarks"])))
    if "envelope" in result:
        show(value_table(f"Mouth of {video} and {result['audio'] or 'its sound'}", envelope_rows(result["envelope"])))
