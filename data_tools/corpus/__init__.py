"""Corpus: many videos of many speakers as audio features and motion, filtered, split by speaker, streamed from disk."""
