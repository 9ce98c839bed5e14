"""Charts as PNG and in TensorBoard's custom scalars."""

import numpy as np

from geneface_jax.training.reporting import Chart, Summaries, _ticks, draw_curves


def test_ticks_are_round_and_span():
    for low, high in ((0.0, 1.0), (0.163, 0.177), (-3.0, 20.0), (0.2, 0.2), (0.0, 0.0)):
        ticks = _ticks(low, high)
        assert ticks[0] <= low + 1e-9 and ticks[-1] >= high - 1e-9 and 2 <= len(ticks) <= 7


def test_a_chart_without_points_is_left_out_and_the_mark_is_drawn():
    full = Chart("a", {"x": [(0, 1.0), (10, 2.0)]}, (1.5,))
    one, two = draw_curves([full, Chart("b", {"y": []})], 5, "t"), draw_curves([full, full, full], 5, "t")
    assert one.height < two.height
    assert np.any(np.asarray(one) != np.asarray(draw_curves([full], 7, "t")))


def test_tensorboard_is_told_which_curves_belong_together(tmp_path):
    def board(folder, charts):
        summaries = Summaries(folder, 0, charts)
        summaries.scalars(1, {"tr/adv": 0.5})
        summaries.close()
        return next((folder / "tensorboard").iterdir()).read_bytes()

    with_charts, without = tmp_path / "a", tmp_path / "b"
    for folder in (with_charts, without):
        folder.mkdir()
    assert b"custom_scalars" not in board(without, {})
    written = board(with_charts, {"scores": ("tr/disc_pos_conf", "tr/disc_neg_conf")})
    assert all(word in written for word in (b"custom_scalars", b"scores", b"tr/disc_pos_conf", b"tr/disc_neg_conf"))
