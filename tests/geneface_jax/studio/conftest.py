"""Fixtures of the studio's tests."""

import pytest


@pytest.fixture
def workspace(tmp_path):
    """A private folder of the studio, entered."""
    from geneface_jax.studio.uploads import SessionFolder

    with SessionFolder(tmp_path) as folder:
        yield folder


@pytest.fixture
def widgets():
    """The components of the controls."""
    gradio = pytest.importorskip("gradio")
    from geneface_jax.studio.i18n import Labels
    from geneface_jax.studio.widgets import ControlWidgets

    with gradio.Blocks():
        yield ControlWidgets.build(Labels())
