"""The steps of `geneface prepare`; each reads files and writes files."""
