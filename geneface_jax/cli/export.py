"""Exports a trained person for other programs: weights (safetensors), config, model card, and the render step (jax.export)."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add = parser.add_argument_group("input and output").add_argument
    add("--subject", required=True, metavar="DIR", help="subject folder made by `geneface fit`, or the name of a shipped person: demo")
    add("--out", required=True, metavar="DIR", help="folder to write; an earlier export is replaced")
    add = parser.add_argument_group("render step").add_argument
    add(
        "--platforms",
        default="cpu,cuda",
        metavar="NAMES",
        help="target platforms of the render step, comma-separated: cpu, cuda, rocm, tpu (default %(default)s)",
    )
    add(
        "--end-threshold",
        type=float,
        default=0.01,
        metavar="X",
        help="transmittance below which a ray stops, 0 to 0.1 (default %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints the folder last."""
    from data_tools.errors import InputError

    if not 0.0 <= args.end_threshold <= 0.1:
        raise InputError(f"--end-threshold is {args.end_threshold}: give a number from 0 to 0.1.")
    platforms = tuple(name.strip() for name in args.platforms.split(",") if name.strip())
    from geneface_jax.export import export_subject

    print(export_subject(args.subject, args.out, platforms=platforms, end_threshold=args.end_threshold))
    return 0
