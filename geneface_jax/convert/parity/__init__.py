"""Our networks against recorded results of the original ones: one function per folder of vectors, through the importer's key maps."""
