"""Faces: detection and tracking, landmarks, head pose, canonical geometry."""
