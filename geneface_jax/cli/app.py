"""Starts the studio: a local web page to make talking videos, train people and inspect their PostNets."""

import argparse
import importlib.util
import logging

from data_tools.errors import InputError

DEFAULT_PORT = 7860
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add = parser.add_argument_group("people").add_argument
    add(
        "--subject",
        metavar="DIR",
        help="a subject folder, the name of a shipped person, or a folder of subject folders, where new people are added (default: "
        "checkpoints/ of a clone; with an installed wheel people/ below the current folder, and the shipped people)",
    )
    add = parser.add_argument_group("network").add_argument
    add("--port", type=int, default=DEFAULT_PORT, metavar="N", help="port, 0 for any free one (default %(default)s)")
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default %(default)s: this machine only)")
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="additional host name to accept, such as a reverse proxy's; repeatable",
    )
    add("--root-path", default="", metavar="PATH", help="path below which a reverse proxy shows the page, such as /geneface")


def run(args: argparse.Namespace) -> int:
    """Runs the verb until Ctrl-C."""
    if importlib.util.find_spec("gradio") is None:
        from geneface_jax.cli.doctor import install_extra

        raise InputError(f"The studio needs the package gradio: run `{install_extra('ui')}`.")
    if not 0 <= args.port <= 65535:
        raise InputError(f"--port is {args.port}: give a number from 0 to 65535.")
    from geneface_jax.studio import server
    from geneface_jax.studio.jobs import JobRunner
    from geneface_jax.studio.people import PersonList
    from geneface_jax.studio.security import Limits, host_names, is_loopback, root_path
    from geneface_jax.studio.uploads import SessionFolder

    hosts, path = host_names(args.host, args.allow_host), root_path(args.root_path)
    people = PersonList.open(args.subject)
    if not is_loopback(args.host):
        logger.warning("%s is reachable from other machines: everyone who can reach it can use every person in the studio.", args.host)
    with SessionFolder() as workspace:
        jobs = JobRunner(people.folder)
        app = server.build_app(people, workspace, Limits(), hosts, jobs, path)
        listener = server.free_socket(args.host, args.port)
        name = f"[{args.host}]" if ":" in args.host else args.host
        print(
            f"serving {', '.join(people.names()) or 'no people yet'}; stop with Ctrl-C\nhttp://{name}:{listener.getsockname()[1]}/",
            flush=True,
        )
        try:
            server.serve(app, listener)
        finally:
            jobs.stop()
    return 0
