"""Import of GeneFace and GeneFace++ weights and data, and of public pretrained networks."""
