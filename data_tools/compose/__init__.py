"""Putting a result back into the video that the person was cut out of."""
