"""The studio: the web page of `geneface app` and the server behind it; needs the extra `ui` (gradio)."""
