"""`geneface prepare-corpus`: how videos are cut and measured, and which clips are kept.

One variant, for LRS3 and any folder of talking videos; docs/corpus.md documents the filters. Changing `filters` or `split` of an existing
corpus takes seconds, since the measurements of every clip are stored; changing `measure` measures every clip again. About half a second of
work per second of video on one CPU core.

    geneface prepare-corpus VIDEOS --out CORPUS --config.filters.min_face_pixels=60
"""

from ml_collections import ConfigDict


def get_config(variant: str = "default") -> ConfigDict:
    """The config of `variant`; there is only "default"."""
    if variant != "default":
        raise ValueError(f'configs/corpus.py has the variant "default", not {variant!r}')
    config = ConfigDict()
    # A video's speaker. "folder": its folder, below LRS3's pretrain/trainval/test. "top": the topmost folder (VoxCeleb). "file": the file.
    config.speaker = "folder"
    config.measure = ConfigDict(
        {
            # Seconds; longer videos are cut into equal pieces, which also bounds the memory needed.
            "piece_seconds": 30.0,
            # Largest lag, in frames, searched for the offset between mouth and audio.
            "offset_reach": 15,
            # An offset is accepted if its score (peak correlation times the square root of the number of frames) is at least this, ...
            "offset_min_score": 5.5,
            # ... and this much higher than at all lags more than three frames from the peak.
            "offset_min_margin": 2.0,
            # Frames; smaller offsets are not corrected: the estimate is no better.
            "offset_tolerance": 0.5,
            # Frames; accepted offsets up to this one are corrected, larger ones drop the clip.
            "offset_max_corrected": 10.0,
        }
    )
    config.filters = ConfigDict(
        {
            "min_seconds": 1.28,
            # Face height (forehead to chin) in pixels of the video, median over the clip.
            "min_face_pixels": 48.0,
            # Longest gap without a face in seconds; shorter ones are interpolated.
            "max_gap_seconds": 0.4,
            # Fraction of the frames that show another face of at least half the size.
            "max_rival_share": 0.2,
            # Gray levels by which one frame's change exceeds its neighbors', and face heights by which the head jumps.
            "max_cut_levels": 16.0,
            "max_jump": 0.1,
            # Contrast of the finest detail in the face relative to the contrast of the complete face.
            "min_sharpness": 0.1,
            # Fraction of voiced audio frames.
            "min_voiced_share": 0.15,
            # Only with --syncnet: sync score in place minus out of place, -1..1.
            "min_sync_score": 0.0,
        }
    )
    # Fraction of the speakers that is held out, with all their clips.
    config.split = ConfigDict({"val_share": 0.05, "seed": 0})
    return config
