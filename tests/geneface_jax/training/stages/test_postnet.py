"""Weights of PostNet's squared error."""

import numpy as np

from geneface_jax.training.speech_losses import masked_mse, upper_face_weights


def test_the_upper_face_can_weigh_less_than_the_mouth():
    weights = upper_face_weights(0.25)
    truth, mask = np.zeros((1, 3, 204)), np.ones((1, 3))
    brow, lip = truth.copy(), truth.copy()
    brow[..., 3 * 17], lip[..., 3 * 48] = 1.0, 1.0
    errors = [float(masked_mse(x, truth, mask, weights)) for x in (brow, lip)]
    np.testing.assert_allclose(errors[0], 0.25 * errors[1], rtol=1e-6)
    assert np.sum(weights == 0.25) == 3 * (48 - 17) and np.array_equal(upper_face_weights(1.0), np.ones(204))
