"""`geneface prepare-corpus`: which clips become part of a corpus, and how they are cut and measured.

One variant, meant for LRS3 and for any folder of talking videos. What each filter means stands in docs/corpus.md; a value is changed on the
command line. Changing `filters` or `split` of a corpus that stands costs seconds, since every clip's measurements are kept; changing
`measure` measures every clip again. About half a second of work per second of video on one CPU core.

    geneface prepare-corpus VIDEOS --out CORPUS --config.filters.min_face_pixels=60
"""

from ml_collections import ConfigDict


def get_config(variant: str = "default") -> ConfigDict:
    """The config of `variant`; there is only "default"."""
    if variant != "default":
        raise ValueError(f'configs/corpus.py has the variant "default", not {variant!r}')
    config = ConfigDict()
    # "folder": the folder a video lies in, below LRS3's pretrain/trainval/test. "top": the topmost folder (VoxCeleb). "file": every file.
    config.speaker = "folder"
    config.measure = ConfigDict(
        {
            # Seconds; longer videos are cut into equal pieces, which also bounds the memory needed.
            "piece_seconds": 30.0,
            # Frames searched to each side for the offset between mouth and sound.
            "offset_reach": 15,
            # An offset is believed when correlation times root of frames is at least this at its peak, ...
            "offset_min_score": 5.5,
            # ... and this much higher than anywhere more than three frames from the peak.
            "offset_min_margin": 3.0,
            # Mouth against loudness peaks within so many frames of zero in good videos: offsets up to here are left alone.
            "offset_tolerance": 3,
            # Frames; believed offsets up to here are corrected, larger ones drop the clip.
            "offset_max_corrected": 10,
        }
    )
    config.filters = ConfigDict(
        {
            "min_seconds": 1.28,
            # The face (forehead to chin) in pixels of the video, median over the clip.
            "min_face_pixels": 48.0,
            # Seconds for which the face may be missing; shorter gaps are interpolated.
            "max_gap_seconds": 0.4,
            # Share of the frames that show another face of at least half the size.
            "max_rival_share": 0.2,
            # Grey levels by which one frame's change exceeds its neighbours' (picture), and face heights by which the head jumps.
            "max_cut_levels": 16.0,
            "max_jump": 0.1,
            # Contrast of the finest detail in the face against that of the whole face.
            "min_sharpness": 0.1,
            # Share of audio frames with a voice.
            "min_voiced_share": 0.15,
            # Only with --syncnet: how much higher the sound must score in place than out of place, -1..1.
            "min_sync_score": 0.0,
        }
    )
    # This share of the speakers is held out, all their clips with them.
    config.split = ConfigDict({"val_share": 0.05, "seed": 0})
    return config
