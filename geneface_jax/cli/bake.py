"""Finds which cells of a head, and which pixels of a torso, ever show, and writes them beside the head; rendering skips all others.

Persons without that file work too, more slowly. `geneface fit` does this at its end; bake again after training a head or a torso further.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument("subject", metavar="SUBJECT", help="subject folder made by `geneface fit`, or the name of a shipped person: demo")


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints the file's path last."""
    from geneface_jax.inference.culling import bake

    baked = bake(args.subject, progress=True)
    for line in baked.findings:
        print(line)
    print(baked.path)
    return 0
