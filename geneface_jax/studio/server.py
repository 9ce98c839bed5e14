"""The server of `geneface app`: the guard, around the page and the addresses beside it."""

from __future__ import annotations

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


def quiet_gradio(workspace: SessionFolder) -> None:
    """Settings that Gradio reads from the environment while it is imported: no reports home, and its files in the private folder."""
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_TEMP_DIR=str(workspace.cache),
        HF_HUB_OFFLINE="1",
        HF_HUB_DISABLE_TELEMETRY="1",
        GRADIO_NUM_PORTS="1",
    )


def build_app(people: PersonList, workspace: SessionFolder, limits: Limits, hosts: Collection[str], room: JobRunner) -> Callable:
    """The ASGI app, guarded.

    Args:
      people: who is served.
      workspace: entered.
      limits: see `Limits`.
      hosts: names the studio is called by (`guard.host_names`).
      room: where people are trained.
    """
    quiet_gradio(workspace)
    import fastapi
    import gradio as gr

    from geneface_jax.studio.api import add_routes
    from geneface_jax.studio.context import Context
    from geneface_jax.studio.page import CSS, build_page, theme
    from geneface_jax.studio.security import RequestFilter

    context = Context(people, workspace, limits)
    app = fastapi.FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    add_routes(app, context)
    page = build_page(context, room)
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
        # From here on a visitor waits for the server to come up instead of being refused.
        listener.listen()
    except OSError as error:
        listener.close()
        raise InputError(f"the studio can't listen on {host}, port {port} ({error.strerror}); give another --port or --host") from error
    return listener


def serve(app: Callable, listener: socket.socket) -> None:
    """Serves until Ctrl-C or SIGTERM.

    Raises:
      SystemExit: with code 143, on SIGTERM; the callers' own tidying up then takes place, which the default handler would leave out.
    """
    import uvicorn

    settings = uvicorn.Config(
        app, log_level="warning", timeout_keep_alive=30, timeout_graceful_shutdown=3, server_header=False, ws="none", limit_concurrency=200
    )
    # uvicorn stops at the signal, and sends it once more to whoever handled it before.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    uvicorn.Server(settings).run(sockets=[listener])
