"""The steps of `prepare`, each of which reads files and leaves files."""
