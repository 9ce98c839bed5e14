"""Masks: person, head, neck, torso."""
