"""Videos in and out, as inference and evaluation use them: `data_tools.video` under one name."""

from data_tools.video.read import read_video
from data_tools.video.write import VideoWriter, open_writer, write_video

__all__ = ["VideoWriter", "open_writer", "read_video", "write_video"]
