"""Selection of a PostNet checkpoint: the procedure behind `geneface select-postnet`, from GeneFace's three rules of thumb.

GeneFace's guide asks for the lowest validation sync loss and mse, an undecided discriminator (0.5 for real and for generated landmarks),
and as few steps as possible, since a GAN that is trained for too long suffers mode collapse. Here the first two form one cost, the third
breaks ties, and mode collapse, under-fitting and over-training are detected separately. Only the work folder is read: the validation
metrics are of the end of the person's own video and of the corpus' held-out speakers.
"""

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path

from data_tools.errors import InputError
from geneface_jax.io import checkpoints, configs
from geneface_jax.training.reporting import Chart, read_metrics

SOUND, COLLAPSED, UNDERFITTED = "sound", "collapsed", "under-fitted"
"""Verdicts on a run."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """Thresholds of the procedure.

    Attributes:
      tolerance: candidates within this cost of the cheapest are tied; the one with the fewest steps is chosen.
      disc_weight: cost per unit of the discriminator's distance from 0.5.
      sync_floor: lower validation sync losses count as this: relative differences between tiny losses are noise.
      collapse: diversity as a share of the VAE's below which the generator has collapsed (at a quarter of the variance the mouth's
        response to the speech is half as large).
      collapse_floor: diversity, as a share of the person's own variance, below which the motion has collapsed whatever the VAE does.
      winning: the discriminator has won if it scores the person at least this and the generator at most 1 - this.
      asleep: mean of both scores (0.5 once it has learned anything) below which the discriminator has hardly begun to learn.
      falling: relative fall of val/mse, from its lowest in the first two thirds of the adversarial updates to its last, above which the
        run ended too early.
      moved: the generator has improved on the VAE if val/mse or val/frechet is at most this share of the VAE's.
      astray: val/mse as a share of the VAE's above which the learning rate, not the number of steps, is to blame.
    """

    tolerance: float = 0.1
    disc_weight: float = 0.5
    sync_floor: float = 0.05
    collapse: float = 0.25
    collapse_floor: float = 0.05
    winning: float = 0.85
    asleep: float = 0.35
    falling: float = 0.05
    moved: float = 0.98
    astray: float = 1.5


@dataclasses.dataclass
class Candidate:
    """A checkpoint with all metrics at its step; None for those that the run didn't log.

    Attributes:
      step: number of updates. adversarial: number of adversarial updates among them.
      mse, sync, frechet, diversity: `val/...`; vae_*: the same of the VAE without PostNet.
      disc_pos_conf, disc_neg_conf, adv: means since the previous evaluation.
      cost: see `rank`. rank: 1 is the choice. reason: explains the rank.
    """

    step: int
    adversarial: int
    mse: float
    sync: float | None = None
    frechet: float | None = None
    diversity: float | None = None
    vae_mse: float | None = None
    vae_frechet: float | None = None
    vae_diversity: float | None = None
    disc_pos_conf: float | None = None
    disc_neg_conf: float | None = None
    adv: float | None = None
    cost: float = 0.0
    rank: int = 0
    reason: str = ""

    @property
    def disc_gap(self) -> float:
        """Largest distance of the discriminator's scores from 0.5; 0.5 if they weren't logged."""
        if self.disc_pos_conf is None or self.disc_neg_conf is None:
            return 0.5
        return max(abs(self.disc_pos_conf - 0.5), abs(self.disc_neg_conf - 0.5))

    def collapsed(self, rules: Rules) -> bool:
        """Mode collapse: different speech gives (nearly) the same face. False if the diversity wasn't logged."""
        if self.diversity is None:
            return False
        from_vae = self.vae_diversity is not None and self.diversity < rules.collapse * self.vae_diversity
        return from_vae or self.diversity < rules.collapse_floor


@dataclasses.dataclass(frozen=True)
class Selection:
    """Result of `select`.

    Attributes:
      step: the chosen checkpoint. verdict: "sound", "collapsed" or "under-fitted", on the run.
      findings: sentences about the run. candidates: best first. rules: the thresholds used.
    """

    step: int
    verdict: str
    findings: list[str]
    candidates: list[Candidate]
    rules: Rules

    def record(self) -> dict:
        """Content of selected.json besides the step."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "step"}


COLUMNS = ("step", "sync", "mse", "disc_pos_conf", "disc_neg_conf", "adv", "diversity", "frechet", "cost")
"""Columns of `table`."""


def select(workdir: str | os.PathLike, rules: Rules | None = None) -> Selection:
    """Ranks the checkpoints of a PostNet work folder and gives a verdict on the run.

    Raises:
      InputError: no checkpoints, another stage, or none of the checkpoints was evaluated after adversarial training.
    """
    rules = rules or Rules()
    saved = checkpoints.steps(workdir)
    if not saved:
        raise InputError(
            f"There is no checkpoint in {Path(workdir) / checkpoints.FOLDER}: train a PostNet with `geneface train`, or name its folder."
        )
    first = adversarial_start(workdir)
    evaluated = curve(workdir, first)
    candidates = [candidate for candidate in evaluated if candidate.step in saved]
    if not candidates:
        raise InputError(
            f"None of the checkpoints {', '.join(map(str, saved))} in {workdir} was evaluated after adversarial training (from step "
            f"{first} on): set config.train.eval_every and save_every to the same number and train again."
        )
    candidates = rank(candidates, rules)
    verdict, findings = run_verdict(evaluated, candidates, rules)
    return Selection(candidates[0].step, verdict, findings, candidates, rules)


def adversarial_start(workdir: str | os.PathLike) -> int:
    """Number of updates before the first adversarial one. Raises InputError for a work folder of another stage than PostNet."""
    config = configs.load_saved(workdir)
    if config.get("stage") != "postnet":
        raise InputError(f"{workdir} belongs to the stage {config.get('stage')}, not postnet: give the work folder of a PostNet.")
    return int(config.finetune_audio2motion.steps) if "finetune_audio2motion" in config else 0


def curve(workdir: str | os.PathLike, first: int) -> list[Candidate]:
    """Every evaluation after update `first` (during adversarial training), by step."""
    rows: dict[int, dict[str, float]] = {}
    for row in read_metrics(workdir):
        rows.setdefault(int(row["step"]), {}).update(row)

    def mean(name: str, since: int, until: int) -> float | None:
        logged = [row[f"tr/{name}"] for step, row in rows.items() if since < step <= until and f"tr/{name}" in row]
        return sum(logged) / len(logged) if logged else None

    candidates, since = [], first
    for step in sorted(step for step, row in rows.items() if step > first and "val/mse" in row):
        row = rows[step]
        candidate = Candidate(step, step - first, row["val/mse"])
        for name in ("sync", "frechet", "diversity"):
            setattr(candidate, name, row.get(f"val/{name}"))
        for name in ("mse", "frechet", "diversity"):
            setattr(candidate, f"vae_{name}", row.get(f"val_vae/{name}"))
        for name in ("disc_pos_conf", "disc_neg_conf", "adv"):
            setattr(candidate, name, mean(name, since, step))
        candidates.append(candidate)
        since = step
    return candidates


def rank(candidates: Sequence[Candidate], rules: Rules) -> list[Candidate]:
    """Sorts candidates and sets their cost, rank and reason.

    The cost is the relative excess of val/mse over the lowest one plus that of val/sync, plus `disc_weight` times the discriminator's
    distance from 0.5. Among those within `tolerance` of the cheapest the one with the fewest steps is first; the others follow by cost,
    collapsed ones last.
    """
    collapsed = {candidate.step for candidate in candidates if candidate.collapsed(rules)}
    healthy = [candidate for candidate in candidates if candidate.step not in collapsed] or list(candidates)
    best_mse = min(candidate.mse for candidate in healthy)
    best_sync = min((candidate.sync for candidate in healthy if candidate.sync is not None), default=None)
    excesses = {}
    for candidate in candidates:
        sync = _excess(candidate.sync, best_sync, rules.sync_floor)
        excesses[candidate.step] = {"val/mse": _excess(candidate.mse, best_mse, 1e-12), "val/sync": sync}
        candidate.cost = sum(excesses[candidate.step].values()) + rules.disc_weight * candidate.disc_gap
    lowest = min(candidate.cost for candidate in healthy)
    tied = [candidate for candidate in healthy if candidate.cost <= lowest + rules.tolerance]
    choice = min(tied, key=lambda candidate: candidate.step)
    ordered = sorted(candidates, key=lambda c: (c is not choice, c not in healthy, c.cost, c.step))
    for place, candidate in enumerate(ordered, 1):
        candidate.rank = place
        words = [f"{tag} {share:.0%} above the lowest" for tag, share in excesses[candidate.step].items() if share >= 0.005]
        words.append(f"discriminator off 0.5 by {candidate.disc_gap:.2f}")
        if candidate.step in collapsed:
            words.insert(0, "mode collapse")
        if candidate is choice:
            words.insert(0, f"fewest steps of {len(tied)} that are as good as the best" if len(tied) > 1 else "the best of all")
        elif candidate in tied:
            words.insert(0, f"as good, but {candidate.step - choice.step} steps more")
        candidate.reason = "; ".join(words)
    return ordered


def run_verdict(evaluated: Sequence[Candidate], ranked: Sequence[Candidate], rules: Rules) -> tuple[str, list[str]]:
    """The verdict on a run, and sentences that explain it; `evaluated` is every evaluation by step, `ranked` the candidates, best first."""
    choice, findings = ranked[0], []
    collapsed = [candidate for candidate in evaluated if candidate.collapsed(rules)]
    if collapsed:
        worst = min(collapsed, key=lambda candidate: candidate.diversity or 0.0)
        vae_alone = "" if worst.vae_diversity is None else f", the VAE alone {worst.vae_diversity:.0%}"
        findings.append(
            f"Mode collapse from step {collapsed[0].step} on: different speech gives nearly the same face (at step {worst.step} it moves "
            f"the mouth {worst.diversity:.0%} as much as the person does, in variance{vae_alone}). Train for fewer steps, with a larger "
            "config.loss.mse and config.loss.sync or a smaller config.optimizer.postnet.lr."
        )
    elif all(candidate.diversity is None for candidate in evaluated):
        findings.append("This run logged no val/diversity, so a mode collapse can't be detected: look at its landmarks.")
    if choice.collapsed(rules):
        return COLLAPSED, findings

    early = _underfitting([candidate for candidate in evaluated if candidate not in collapsed], choice, rules)
    if early:
        findings += early
        return UNDERFITTED, findings
    newest = max(ranked, key=lambda candidate: candidate.step)
    if not collapsed and newest.cost > choice.cost + rules.tolerance:
        findings.append(
            f"Over-training: step {newest.step} is worse than {choice.step} ({newest.reason}). Nothing to do: the choice is earlier."
        )
    if choice.sync is None:
        findings.append("This run had no SyncNet, so val/sync was not part of the cost.")
    return SOUND, findings


def _underfitting(evaluated: Sequence[Candidate], choice: Candidate, rules: Rules) -> list[str]:
    """Sentences on signs that the generator has not learned the person; empty if there are none."""
    last, signs = evaluated[-1], []
    way_out = "train longer (config.train.steps)"
    if last.disc_pos_conf is not None and last.disc_neg_conf is not None:
        mean = (last.disc_pos_conf + last.disc_neg_conf) / 2.0
        scores = f"{last.disc_pos_conf:.2f} to the person and {last.disc_neg_conf:.2f} to the generator"
        if mean < rules.asleep:
            signs.append(
                f"Under-fitting: the discriminator has hardly begun to learn (it gives {scores}), the generator learned nothing; {way_out}."
            )
        if last.disc_pos_conf >= rules.winning and last.disc_neg_conf <= 1.0 - rules.winning:
            signs.append(
                f"Under-fitting: the discriminator wins (it gives {scores}), the generator hasn't moved toward the person; "
                "raise config.loss.adv or config.optimizer.postnet.lr."
            )
    before = [candidate for candidate in evaluated if candidate.adversarial <= last.adversarial * 2 / 3]
    if before and last.mse <= min(candidate.mse for candidate in evaluated):
        # Relative to the lowest, as a GAN's curve fluctuates.
        lowest = min(before, key=lambda candidate: candidate.mse)
        fall = 1.0 - last.mse / lowest.mse
        if fall > rules.falling:
            signs.append(f"Under-fitting: val/mse was still falling at the end ({fall:.0%} since step {lowest.step}); {way_out}.")
    pairs = [(choice.mse, choice.vae_mse), (choice.frechet, choice.vae_frechet)]
    shares = [value / max(vae, 1e-12) for value, vae in pairs if value is not None and vae is not None]
    if shares and min(shares) > rules.moved:
        signs.append(
            f"Under-fitting: at step {choice.step} the generator is no nearer to the person than the VAE alone (val/mse {shares[0]:.0%} of "
            f"the VAE's); {way_out if shares[0] < rules.astray else 'it has gone astray: lower config.optimizer.postnet.lr'}."
        )
    return signs


def _excess(value: float | None, best: float | None, floor: float) -> float:
    """Relative excess of a loss over the best one; infinite if it isn't finite, 0 if no candidate has it."""
    if best is None:
        return 0.0
    if value is None or not math.isfinite(value):
        return math.inf
    return max(value, floor) / max(best, floor) - 1.0


def table(selection: Selection) -> str:
    """The candidates, best first, as aligned text."""
    rows = [["rank", *COLUMNS, "reason"]]
    for candidate in selection.candidates:
        numbers = [getattr(candidate, name) for name in COLUMNS]
        cells = ["-" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}" for value in numbers]
        rows.append([str(candidate.rank), *cells, candidate.reason])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return "\n".join("  ".join([*(cell.rjust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows)


def charts(workdir: str) -> list[Chart]:
    """The curves used by the selection, from the first adversarial update on."""
    first = adversarial_start(workdir)
    rows = [row for row in read_metrics(workdir) if row["step"] > first]

    def chart(title: str, tags: dict[str, str], *guides: float) -> Chart:
        return Chart(title, {name: [(int(row["step"]), row[tag]) for row in rows if tag in row] for name, tag in tags.items()}, guides)

    return [
        chart("val/sync (lower is better)", {"PostNet": "val/sync"}),
        chart("val/mse (lower is better)", {"PostNet": "val/mse", "VAE alone": "val_vae/mse"}),
        chart("discriminator (0.5: undecided)", {"the person": "tr/disc_pos_conf", "generated": "tr/disc_neg_conf"}, 0.5),
        chart("adversarial loss of the generator (0.25: undecided)", {"tr/adv": "tr/adv"}, 0.25),
        chart("diversity (0: the same face for any speech)", {"PostNet": "val/diversity", "VAE alone": "val_vae/diversity"}, 0.0),
        chart("Frechet distance to the person (lower is better)", {"PostNet": "val/frechet", "VAE alone": "val_vae/frechet"}),
    ]
