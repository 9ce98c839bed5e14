"""Resume rules: which config changes a resumed run refuses."""

from __future__ import annotations

import pytest
from ml_collections import ConfigDict
from toy_stage import toy_config

from data_tools.errors import InputError
from geneface_jax.io import configs


def changed(key, value):
    config = toy_config()
    configs_before = config.copy_and_resolve_references()
    *parents, leaf = key.split(".")
    holder = config
    for name in parents:
        holder = holder[name]
    with holder.unlocked():
        holder[leaf] = value
    return configs_before, config


@pytest.mark.parametrize(
    ("key", "value", "refused"),
    [("seed", 8, True), ("model.width", 4, True), ("stage", "other", True), ("optimizer.lr", 0.2, False), ("train.steps", 99, False)],
)
def test_changes_follow_the_rules(tmp_path, key, value, refused):
    old, new = changed(key, value)
    configs.save(old, tmp_path)
    if refused:
        with pytest.raises(InputError, match=rf"config.{key}: .* -> {value} can't change .*--restore lenient"):
            configs.require_resumable(tmp_path, new)
    sentences = configs.require_resumable(tmp_path, new, lenient=refused)
    assert len(sentences) == 1 and sentences[0].startswith(f"config changed since the last run: {key}: ")


def test_new_config_keys_are_never_refused(tmp_path):
    old, new = changed("model.depth", 3)
    configs.save(old, tmp_path)
    assert len(configs.require_resumable(tmp_path, new)) == 1
    assert configs.require_resumable(tmp_path / "nothing", new) == []


@pytest.mark.parametrize(("recorded", "kept"), [(None, "starts"), ("starts", "starts"), ("length", "length")])
def test_a_resumed_run_keeps_the_draw_that_it_began_with(tmp_path, recorded, kept):
    began, now = toy_config(), toy_config()
    with began.unlocked(), now.unlocked():
        now.data = ConfigDict({"draw": "length"})
        if recorded:
            began.data = ConfigDict({"draw": recorded})
    assert configs.as_begun(now, tmp_path) == (now, []), "a new run has what its config says"
    configs.save(began, tmp_path)
    config, sentences = configs.as_begun(now, tmp_path)
    assert config.data.draw == kept and now.data.draw == "length"
    assert sentences == (
        [] if kept == "length" else [f"config.data.draw stays {kept!r}, with which this run began (a new --workdir begins with 'length')"]
    )
    assert configs.as_begun(toy_config(), tmp_path)[1] == [], "a stage without the key"


def test_every_rule_has_an_action_and_a_reason():
    patterns = [pattern for pattern, action, why in configs.RULES if action in (configs.REFUSE, configs.WARN) and why]
    assert len(patterns) == len(configs.RULES) and patterns[-1] == "*"
    assert [c.action for c in configs.config_changes(ConfigDict({"a": 1}), ConfigDict({"a": 2}))] == [configs.WARN]
