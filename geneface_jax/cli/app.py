"""Opens the studio: a web page on this machine to make talking videos, to train people, and to inspect their PostNets."""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import sys
from pathlib import Path

from data_tools.errors import InputError

DEFAULT_PORT = 7860


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument(
        "--subject",
        metavar="DIR",
        help="a subject folder, or a folder of them (default: checkpoints/ of the repository); new people go there",
    )
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, metavar="N", help="port, 0 for a free one (default %(default)s)")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default %(default)s: this machine alone)"
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name the studio is called by, such as a reverse proxy's",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the verb until Ctrl-C."""
    if importlib.util.find_spec("gradio") is None:
        raise InputError("the studio needs the package gradio: run `pip install -e '.[ui]'`.")
    if not 0 <= args.port <= 65535:
        raise InputError(f"--port is {args.port}; give a number from 0 to 65535.")
    from geneface_jax.io import configs
    from geneface_jax.studio import server
    from geneface_jax.studio.jobs import JobRunner
    from geneface_jax.studio.render_queue import PersonList
    from geneface_jax.studio.security import Limits, host_names
    from geneface_jax.studio.uploads import SessionFolder

    people = PersonList(Path(args.subject) if args.subject else configs.repository() / "checkpoints")
    if not _loopback(args.host):
        print(
            f"geneface app: {args.host} can be reached from other machines, and whoever reaches it can use every person here.",
            file=sys.stderr,
        )
    with SessionFolder() as workspace:
        room = JobRunner(people.folder)
        app = server.build_app(people, workspace, Limits(), host_names(args.host, args.allow_host), room)
        listener = server.free_socket(args.host, args.port)
        name = f"[{args.host}]" if ":" in args.host else args.host
        print(
            f"serving {', '.join(people.names()) or 'nobody yet'}; Ctrl-C ends it\nhttp://{name}:{listener.getsockname()[1]}/", flush=True
        )
        try:
            server.serve(app, listener)
        finally:
            room.stop()
    return 0


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
