"""Trains one stage from a config file. The same command resumes an interrupted run and does nothing after a finished one."""

import argparse

EPILOG = "Any key of the config can be set with --config.key=value: --config.train.steps=1000 --config.data.subject=out/me/dataset."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.epilog = EPILOG
    add = parser.add_argument_group("input and output").add_argument
    add("--config", required=True, metavar="FILE[:VARIANT]", help="config file, or its name in configs/; variant demo or reference")
    add("--workdir", required=True, metavar="DIR", help="folder for config, checkpoints and curves")
    start = parser.add_argument_group("initialization")
    start.add_argument("--init", metavar="FROM_WORKDIR", help="initialize with the parameters of another run; ignored when a run resumes")
    start.add_argument(
        "--init-codes",
        choices=["keep", "mean"],
        default="keep",
        help="appearance codes of --init: keep them, or replace them by their mean for another video (default %(default)s)",
    )
    start.add_argument("--init-rule", metavar="NAME", help="named renaming rule for an --init of another stage, such as head-into-head_sr")
    start.add_argument(
        "--init-rename", metavar="OLD=NEW", action="append", default=[], help="take only the tensors under OLD, renamed to NEW; repeatable"
    )
    start.add_argument(
        "--restore",
        choices=["strict", "lenient"],
        default="strict",
        help="if a tensor's shape differs from the config, or a config key changed that must not: refuse, or continue with a warning "
        "(default %(default)s)",
    )
    machine = parser.add_argument_group("devices and hosts (docs/scaling.md)")
    machine.add_argument("--devices", type=int, metavar="N", help="use the first N devices of this process (default: all)")
    machine.add_argument("--coordinator", metavar="HOST:PORT", help='address of process 0 in a multi-host run; "auto" asks the launcher')
    machine.add_argument("--processes", type=int, metavar="N", help="number of processes of the run")
    machine.add_argument("--process", type=int, metavar="I", help="index of this process, from 0")
    machine.add_argument("--profile", type=int, default=0, metavar="STEPS", help="profile this many updates into DIR/profile")
    parser.set_defaults(overrides=[])


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints the work folder last."""
    from geneface_jax.io import configs, restore
    from geneface_jax.training import devices
    from geneface_jax.training.loop import train

    config = configs.load(args.config, args.overrides)
    renames = restore.parse_renames(args.init_rule, args.init_rename)
    cluster = devices.cluster_from_environment(args.coordinator, args.processes, args.process)
    if cluster is not None:
        devices.join_cluster(cluster)
    with devices.limited(args.devices):
        warm_start = {"init": args.init, "appearance_codes": args.init_codes, "renames": renames}
        print(train(config, args.workdir, **warm_start, restore_mode=args.restore, profile=args.profile))
    return 0
