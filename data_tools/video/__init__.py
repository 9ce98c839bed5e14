"""Video: reading, writing, cropping and resampling clips with ffmpeg."""
