"""Corpus: many videos of many speakers -> audio features and motion, filtered, split by speaker, streamed from disk."""
