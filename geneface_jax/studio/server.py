"""The server of `geneface app`: the request filter around the page and the HTTP routes."""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Collection

import uvicorn

from data_tools.errors import InputError
from geneface_jax.studio.connections import PatientProtocol
from geneface_jax.studio.jobs import JobRunner
from geneface_jax.studio.people import PersonList
from geneface_jax.studio.security import Limits
from geneface_jax.studio.uploads import SessionFolder

SEND_BUFFER_BYTES = 128 << 10
SOCKET_MESSAGE_BYTES = 1 << 20
"""Largest message of a WebSocket client: at least a second of sound."""


def build_app(
    people: PersonList, workspace: SessionFolder, limits: Limits, hosts: Collection[str], jobs: JobRunner, root_path: str = ""
) -> Callable:
    """The ASGI app behind its request filter.

    Args:
      people: the served persons.
      workspace: an entered context manager; what is older than the limits allow is deleted from now on.
      limits: see `Limits`.
      hosts: accepted host names (`security.host_names`).
      jobs: trains persons.
      root_path: path below which a proxy shows the studio (`security.root_path`).
    """
    os.environ["GRADIO_TEMP_DIR"] = str(workspace.cache)
    import fastapi
    import gradio as gr

    from geneface_jax.studio.api import add_live, add_routes
    from geneface_jax.studio.page import CSS, build_page, theme
    from geneface_jax.studio.render_queue import Context
    from geneface_jax.studio.security import RequestFilter

    context = Context(people, workspace, limits, root_path)
    workspace.keep_tidy(limits.keep_seconds)

    @contextlib.asynccontextmanager
    async def lifespan(_: fastapi.FastAPI) -> AsyncIterator[None]:
        yield
        hub.stop()

    app = fastapi.FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    add_routes(app, context)
    hub = add_live(app, people)
    page = build_page(context, jobs)
    page.queue(api_open=False, max_size=64, default_concurrency_limit=4)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        root_path=root_path or None,
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
    return RequestFilter(app, hosts, limits, context.quota, root_path, {number: len(event.inputs) for number, event in page.fns.items()})


def free_socket(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
      InputError: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Inherited by every connection. By default the system buffers megabytes for a reader that reads nothing.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    try:
        listener.bind((host.strip("[]"), port))
        # From here on a connection waits for the server to start instead of being refused.
        listener.listen()
    except OSError as error:
        listener.close()
        raise InputError(f"The studio can't listen on {host}, port {port} ({error.strerror}): give another --port or --host.") from error
    return listener


def serving(app: Callable) -> uvicorn.Server:
    """The HTTP server of the studio's app."""
    # Concurrency is limited by the filter and the protocol: uvicorn would count idle connections, and refuse /health too.
    settings = uvicorn.Config(
        app,
        http=PatientProtocol,
        # Its connections wait for readers that are slow; what is sent, JPEG, does not get smaller.
        ws="websockets-sansio",
        ws_max_size=SOCKET_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        log_level="warning",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
        server_header=False,
    )
    return uvicorn.Server(settings)


def serve(app: Callable, listener: socket.socket) -> None:
    """Serves until Ctrl-C or SIGTERM.

    Raises:
      SystemExit: with code 143, on SIGTERM, so that the callers' cleanup runs (the default handler would skip it).
    """
    # uvicorn stops at the signal, then raises it again for the handler installed before.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    serving(app).run(sockets=[listener])
