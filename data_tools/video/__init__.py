"""Video: reading, writing, cropping and retiming clips through ffmpeg."""
