"""Original GeneFace / GeneFace++ weights and data in our layout."""
