"""The studio: a web page for making videos, training people and choosing checkpoints, and an HTTP API for streams.

Importing any of its modules prepares the environment that gradio reads when it is imported: no telemetry and no proxies, because nothing in
the studio connects to another machine (a SOCKS proxy in the environment would keep gradio from being imported at all).
"""

import os

for _name in [name for name in os.environ if name.lower() in ("all_proxy", "http_proxy", "https_proxy", "ftp_proxy", "no_proxy")]:
    del os.environ[_name]
os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", GRADIO_NUM_PORTS="1")
