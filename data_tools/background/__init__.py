"""The picture behind the person, gathered over the clip."""
