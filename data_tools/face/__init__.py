"""Faces: detection and tracking, landmarks, pose, canonical geometry."""
