"""Masks: person segmentation, head and torso regions, the clean background plate, inpainted torso images."""
