"""Trains one stage from a config file. The same command resumes, and finds a finished run done."""

from __future__ import annotations

import argparse

EPILOG = "Any key of the config can be set with --config.key=value: --config.train.steps=1000 --config.data.subject=out/me/dataset."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.epilog = EPILOG
    parser.add_argument(
        "--config", required=True, metavar="FILE[:VARIANT]", help="config file, or its name in configs/; variant demo or reference"
    )
    parser.add_argument("--workdir", required=True, metavar="DIR", help="where config, checkpoints and curves go")
    start = parser.add_argument_group("what it begins with")
    start.add_argument(
        "--init", metavar="FROM_WORKDIR", help="begin with the parameters of another run; of no effect on a run that is resumed"
    )
    start.add_argument(
        "--init-codes",
        choices=["keep", "mean"],
        default="keep",
        help="appearance codes of --init: kept, or for another video all the mean code (default %(default)s)",
    )
    start.add_argument("--init-rule", metavar="NAME", help="--init is of another stage: a rule by name, such as head-into-head_sr")
    start.add_argument(
        "--init-rename", metavar="OLD=NEW", action="append", default=[], help="take tensors under OLD as NEW, and no others; repeatable"
    )
    start.add_argument(
        "--restore",
        choices=["strict", "lenient"],
        default="strict",
        help="a tensor of another shape than this config makes, or a config that must not change: refuse, or go on and say so "
        "(default %(default)s)",
    )
    machine = parser.add_argument_group("devices and hosts (docs/scaling.md)")
    machine.add_argument("--devices", type=int, metavar="N", help="use the first N devices of this process (default: all)")
    machine.add_argument("--coordinator", metavar="HOST:PORT", help='address of process 0 of a run on many hosts; "auto" asks the launcher')
    machine.add_argument("--processes", type=int, metavar="N", help="how many processes the run has")
    machine.add_argument("--process", type=int, metavar="I", help="which of them this is, from 0")
    machine.add_argument("--profile", type=int, default=0, metavar="STEPS", help="record so many updates into DIR/profile")
    parser.set_defaults(overrides=[])


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints the work folder last."""
    from geneface_jax.io import configs, restore
    from geneface_jax.training import devices
    from geneface_jax.training.loop import train

    config = configs.load(args.config, args.overrides)
    moves = restore.parse_moves(args.init_rule, args.init_rename)
    cluster = devices.cluster_from_environment(args.coordinator, args.processes, args.process)
    if cluster is not None:
        devices.join_cluster(cluster)
    with devices.limited(args.devices):
        options = {"init": args.init, "codes": args.init_codes, "moves": moves, "restore_mode": args.restore, "profile": args.profile}
        print(train(config, args.workdir, **options))
    return 0
