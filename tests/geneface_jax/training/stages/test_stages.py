"""Stages are found by name; they leave the config they are given unchanged, and say which of its phases a short run never reaches."""

from __future__ import annotations

import pytest
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.io import configs
from geneface_jax.training import field_losses
from geneface_jax.training.stage import get_stage
from tests.tiny_stages import OVERRIDES, tiny_config, write_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("stages"))


def test_an_unknown_stage_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'head'"):
        get_stage(ConfigDict({"stage": "haed"}))


@pytest.mark.parametrize("name", OVERRIDES)
def test_a_stage_leaves_the_given_config_unchanged(name, folder):
    config = tiny_config(name, folder)
    before = config.copy_and_resolve_references()
    assert get_stage(config).config != before, "a stage records the camera or the feature types in its own copy"
    assert config == before


ABSOLUTE = ("start", "from", "after", "warmup", "ramp")
"""Last words of keys that are a number of updates."""

ON = {"pose_refinement.lr": 1e-4, "lips.weight": 0.01, "lips.side": 8, "loss.perceptual_small": 0.01}
"""What switches every phase on."""


@pytest.fixture
def no_lpips(monkeypatch):
    """Stages that would load LPIPS's weights get none."""
    monkeypatch.setattr(field_losses, "load_lpips", lambda *_: {})


def short(name, folder, steps, *overrides):
    """The small stage with the absolute keys of its `reference` config, in a run of so many updates; and these keys."""
    config = tiny_config(name, folder)
    reference = configs.leaves(configs.load(f"{name}:reference"))
    named = {key: value for key, value in reference.items() if key.split(".")[-1].split("_")[-1] in ABSOLUTE}
    absolute = {key: max(value, 1) for key, value in named.items() if isinstance(value, int)}
    values = {**absolute, **{key: value for key, value in ON.items() if key in reference}, "train.steps": steps}
    return get_stage(configs.override(configs.override(config, values), overrides)), set(absolute)


@pytest.mark.parametrize("name", OVERRIDES)
def test_every_phase_at_an_absolute_update_is_known_to_its_stage(name, folder, no_lpips):
    """A key that is a number of updates and that `phases` doesn't name would be skipped in silence by a shorter run."""
    stage, keys = short(name, folder, 10**9)
    assert keys <= {phase.key for phase in stage.phases()}
    assert [remark for remark in stage.opening_remarks() if "optimizer.audio2motion.warmup" not in remark] == []


@pytest.mark.parametrize(
    ("name", "steps", "said"),
    [
        ("head", 100_000, ["distortion.start=80000", "lips.start=80000"]),
        ("head", 202_000, ["lips.ramp=200"]),
        ("head_sr", 100_000, ["distortion.start=80000", "loss.perceptual_start=80000"]),
        ("torso_sr", 100_000, ["loss.perceptual_start=80000"]),
        ("nerf_head", 40_000, ["optimizer.tenth_after=25000", "model.attention_from=20000"]),
        ("nerf_torso", 150, ["optimizer.tenth_after=93", "restart.steps=15"]),
        ("audio2motion", 400, ["optimizer.warmup=20"]),
        ("postnet", 400, ["optimizer.postnet.warmup=19", "optimizer.audio2motion.warmup=1"]),
    ],
)
def test_a_short_run_is_told_what_it_skips_and_the_value_to_give(name, steps, said, folder, no_lpips):
    remarks = short(name, folder, steps)[0].opening_remarks()
    assert [remark.partition("give --config.")[2].partition(" ")[0] for remark in remarks] == said
    # With these values there is nothing left to say.
    ramps = ["lips.ramp=1000"] if "lips.start=80000" in said else []
    ramps += ["distortion.ramp=1000"] if "distortion.start=80000" in said else []
    assert short(name, folder, steps, *said, *ramps)[0].opening_remarks() == []


def test_a_postnet_whose_fine_tuning_takes_the_whole_run_says_so(folder):
    stage = get_stage(tiny_config("postnet", folder, "finetune_audio2motion.steps=40", "train.steps=40"))
    assert "give --config.finetune_audio2motion.steps=10" in stage.opening_remarks()[0]


def test_a_phase_without_weight_is_not_missed(folder):
    config = configs.override(tiny_config("head", folder), {"lips.start": 200_000, "distortion.weight": 0.0, "train.steps": 100})
    assert get_stage(config).opening_remarks() == []
