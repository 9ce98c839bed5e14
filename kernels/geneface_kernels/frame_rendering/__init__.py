"""From rays to whole frames: marching, a radiance field given as a function, and compositing, in one jitted call."""

from geneface_kernels.frame_rendering.budget import count_samples, sufficient_budget
from geneface_kernels.frame_rendering.march import FrameMarch
from geneface_kernels.frame_rendering.per_ray import render_per_ray
from geneface_kernels.frame_rendering.result import Field, FrameRender
from geneface_kernels.frame_rendering.single_pass import render_single_pass

__all__ = ["Field", "FrameMarch", "FrameRender", "count_samples", "render_per_ray", "render_single_pass", "sufficient_budget"]
