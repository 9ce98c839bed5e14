"""The server of `geneface app`: the request filter around the page and the HTTP routes."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Collection

from data_tools.errors import InputError
from geneface_jax.studio.jobs import JobRunner
from geneface_jax.studio.render_queue import PersonList
from geneface_jax.studio.security import Limits
from geneface_jax.studio.uploads import SessionFolder


def configure_gradio(workspace: SessionFolder) -> None:
    """Sets the environment that Gradio reads at import: no telemetry, and its files in the private folder."""
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_TEMP_DIR=str(workspace.cache),
        HF_HUB_OFFLINE="1",
        HF_HUB_DISABLE_TELEMETRY="1",
        GRADIO_NUM_PORTS="1",
    )


def build_app(people: PersonList, workspace: SessionFolder, limits: Limits, hosts: Collection[str], jobs: JobRunner) -> Callable:
    """The ASGI app behind its request filter.

    Args:
      people: the served persons.
      workspace: an entered context manager.
      limits: see `Limits`.
      hosts: accepted host names (`security.host_names`).
      jobs: trains persons.
    """
    configure_gradio(workspace)
    import fastapi
    import gradio as gr

    from geneface_jax.studio.api import add_routes
    from geneface_jax.studio.page import CSS, build_page, theme
    from geneface_jax.studio.render_queue import Context
    from geneface_jax.studio.security import RequestFilter

    context = Context(people, workspace, limits)
    app = fastapi.FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    add_routes(app, context)
    page = build_page(context, jobs)
    page.queue(api_open=False, max_size=64, default_concurrency_limit=4)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        allowed_paths=[str(workspace.results)],
        show_error=False,
        max_file_size=limits.video_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        run_history=False,
        mcp_server=False,
        pwa=False,
        footer_links=[],
        theme=theme(),
        css=CSS,
    )
    return RequestFilter(app, hosts, limits, lambda: limits.folder_bytes - workspace.size(), workspace.folder)


def free_socket(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
      InputError: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
        # From here on a connection waits for the server to start instead of being refused.
        listener.listen()
    except OSError as error:
        listener.close()
        raise InputError(f"The studio can't listen on {host}, port {port} ({error.strerror}): give another --port or --host.") from error
    return listener


def serve(app: Callable, listener: socket.socket) -> None:
    """Serves until Ctrl-C or SIGTERM.

    Raises:
      SystemExit: with code 143, on SIGTERM, so that the callers' cleanup runs (the default handler would skip it).
    """
    import uvicorn

    settings = uvicorn.Config(
        app, log_level="warning", timeout_keep_alive=30, timeout_graceful_shutdown=3, server_header=False, ws="none", limit_concurrency=200
    )
    # uvicorn stops at the signal, then raises it again for the handler installed before.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    uvicorn.Server(settings).run(sockets=[listener])
