"""Torso images: the person without the head, with the neck painted on upwards."""
