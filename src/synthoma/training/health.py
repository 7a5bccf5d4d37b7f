"""What goes wrong in a GAN's training, seen in what is logged and said in plain words.

`Health` reads the rows of stats.jsonl as they are written, so it needs nothing else to be judged again later, and costs
nothing. What is done about a finding is decided elsewhere. Every limit below is a constant with its reason.
"""

import copy
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from synthoma.settings import HealthSection

Severity = Literal["warning", "grave"]
Row = Mapping[str, Any]

# A discriminator of a healthy run gives reals 0.7 to 0.9 and fakes 0.1 to 0.3. Beyond these it is right in every case.
SURE_REAL, SURE_FAKE = 0.97, 0.03
# Share of pairs that it orders rightly, minus the others. Critics of healthy Wasserstein runs come near to 1 as well,
# so this counts only where the images no longer get better.
SURE_AHEAD = 0.99
# Nor does it count where its probabilities are moderate: it may order all pairs of easy images rightly and still be unsure
# of each. With labels smoothed by 0.15 a saturated one ends 0.85 apart, a healthy one stays within 0.8.
SURE_APART = 0.82
# What it has to fall back to before the finding is over; the gap keeps a value at the limit from being told again.
UNSURE_FAKE, UNSURE_AHEAD = 0.06, 0.97
# Ticks in a row: the first ticks of many runs are lost by the generator, which then catches up.
SATURATED_TICKS, SATURATED_FOR_LONG = 6, 18
# Validations without a better KID after which a run counts as stuck, and share of its earlier gradients at which the
# generator's have vanished.
STUCK_VALIDATIONS, VANISHED = 2, 0.01
# A Wasserstein critic is right in every case from its first updates on, while its slope takes long to reach 1: as long as
# the generator's gradient is above so many times its median, nothing is stuck but only beginning.
GROWING = 3.0

# Mean distance between samples over that of real images. Trained models of ours lie at 0.5 to 1.1, one image a class is
# 0; blur alone halves it.
COLLAPSED, RECOVERED = 0.25, 0.4
# Validations in a row: the first samples of a run are all alike before it has learned anything.
COLLAPSED_VALIDATIONS, COLLAPSED_FOR_LONG = 2, 4

# Three times as many samples close to a training image as chance puts there, and more of them at training images than at
# held-out ones by four standard errors: one false alarm in tens of thousands of validations.
TOO_CLOSE, TOO_CLOSE_ERRORS = 3.0, 4.0
COPIED_VALIDATIONS, COPIED_FOR_LONG = 2, 4

# Losses and gradients vary by a factor of ten or so within a healthy run; a hundredfold median is another regime.
RUNAWAY, RUNAWAY_TICKS = 100.0, 2
MEMORY_TICKS, LEAST_TICKS = 50, 8
# Losses are of order 1 when balanced; a median near zero is no scale to measure by.
LEAST_LOSS, LEAST_GRADIENT = 1.0, 1e-6
# -log D(fake) = 20 means D(fake) = 2e-9: no gradient of use is left. Raw scores have no scale; 1e6 is none of theirs.
MOST_LOSS = {"probability": 20.0, "raw": 1e6}

# KID of averaged weights swings by less than its double; three times the best, beyond the noise, is a run that went bad.
KID_RISE, KID_ERRORS, KID_VALIDATIONS = 3.0, 5.0, 3
# Images that fell apart differ so much from each other that the error of their KID is a third of it. Then its logarithm
# counts, whose error stays small, and which has to have risen by four of them.
KID_LOG_ERRORS = 4.0

# Best KID over that of flat pictures, from how many thousand images on, and validations in a row. Healthy runs of ours lie
# below 0.05 after 10 thousand images; rates that were a hundredfold gave 0.8 and more for good.
LEARNED, LEARNED_KIMG, FLAT_VALIDATIONS, FLAT_FOR_LONG = 0.5, 10, 3, 6

SMALL_DATA, VERY_SMALL_DATA = 1000, 300

_GRADUAL = {
    "loss_discriminator": ("loss of the discriminator", LEAST_LOSS),
    "loss_generator": ("loss of the generator", LEAST_LOSS),
    "gradient_discriminator": ("gradient of the discriminator", LEAST_GRADIENT),
    "gradient_generator": ("gradient of the generator", LEAST_GRADIENT),
}


@dataclass(frozen=True)
class Finding:
    """What was seen, in words for the person who reads the log, and what helps.

    sign: saturated_discriminator, collapse, memorisation, divergence or no_progress. severity: "grave" findings are
    those on which a recipe can stop the run or go back.
    """

    sign: str
    message: str
    advice: str
    severity: Severity


class Health:
    """The watch over one run: `observe` takes each row of the log and returns what is new.

    A finding is told once, and again only after it went away and came back, or when it became grave. scores: what
    D(real) and D(fake) are, "probability" or "raw". memory: of an earlier watch (JSON), from a checkpoint.
    """

    def __init__(self, settings: HealthSection, scores: str, memory: Mapping[str, Any] | None = None) -> None:
        self.settings, self.scores = settings, scores
        self._memory: dict[str, Any] = {
            "told": {},
            "lasting": {},
            "history": {},
            "lowest": {},
            "level": None,
            "best": None,
            "since_best": 0,
        }
        self._memory |= copy.deepcopy(dict(memory or {}))

    @property
    def memory(self) -> dict[str, Any]:
        """All that the watch remembers, as JSON."""
        return copy.deepcopy(self._memory)

    @property
    def since_best(self) -> int:
        """Validations since the best one."""
        return int(self._memory["since_best"])

    def forget(self, sign: str) -> None:
        """Tell findings of this sign anew, where they last."""
        told = self._memory["told"]
        for key in [key for key in told if key.startswith(sign)]:
            del told[key]

    def observe(self, row: Row) -> list[Finding]:
        """Findings that a row of stats.jsonl gives rise to; rows of other kinds than "tick" and "validation" give none."""
        if row["kind"] == "tick":
            self._at_level(row.get("level"))
            return [*self._saturation(row), *self._runaway(row)]
        if row["kind"] == "validation":
            progress = self._progress(row)
            return [*self._collapse(row), *self._memorisation(row), *self._rising_kid(row), *self._flat(row), *progress]
        return []

    def _at_level(self, level: int | None) -> None:
        """A new level of growth is another network: what was usual before says nothing about it."""
        if level != self._memory["level"]:
            self._memory |= {"level": level, "history": {}, "lowest": {}, "lasting": {}, "best": None, "since_best": 0}

    def _tell(
        self, key: str, bad: bool, well: bool, after: tuple[int | None, int | None], finding: tuple[str, str, str]
    ) -> list[Finding]:
        """The finding (sign, message, advice), if `bad` now lasts for after = (rows to a warning, rows to a grave one).

        well: it is over, and can be told anew.
        """
        told, lasting = self._memory["told"], self._memory["lasting"]
        if well:
            told.pop(key, None)
        lasting[key] = lasting.get(key, 0) + 1 if bad else 0
        severities: list[tuple[int | None, Severity]] = [(after[1], "grave"), (after[0], "warning")]
        for limit, severity in severities:
            if limit is not None and lasting[key] >= limit:
                if told.get(key) in (severity, "grave"):
                    return []
                told[key] = severity
                return [Finding(*finding, severity)]
        return []

    def _saturation(self, row: Row) -> list[Finding]:
        real, fake, ahead = (float(row[name]) for name in ("d_real", "d_fake", "ahead"))
        stuck = self._memory["best"] is not None and self._memory["since_best"] >= STUCK_VALIDATIONS
        hopeless = stuck or self._vanished(row)
        probable = self.scores == "probability"
        sure = probable and real >= SURE_REAL and fake <= SURE_FAKE
        apart = not probable or real - fake >= SURE_APART
        ordered = ahead >= SURE_AHEAD and apart and hopeless and not self._growing(row)
        over = (not probable or fake > UNSURE_FAKE) and ahead < UNSURE_AHEAD
        grave = SATURATED_FOR_LONG if hopeless or self._memory["best"] is None else None
        right = f"it is right in {50 * (1 + ahead):.1f} % of pairs"
        scores = f"D(real) {real:.2f}, D(fake) {fake:.2f}" if probable else right
        finding = (
            "saturated_discriminator",
            f"The discriminator tells real from generated images every time ({scores}): the generator gets no signal to "
            "learn from, and its images stop getting better.",
            "Make the discriminator's task harder: halve training.discriminator_learning_rate, add training.augment.policy "
            "[colour, translation, cutout], raise training.gamma fourfold with the penalty r1, or take narrower "
            "model.discriminator_widths.",
        )
        return self._tell("saturated_discriminator", sure or ordered, over, (SATURATED_TICKS, grave), finding)

    def _vanished(self, row: Row) -> bool:
        """Whether the generator's gradient is next to nothing against what it was."""
        usual = self._usual("gradient_generator")
        now = row.get("gradient_generator")
        return usual is not None and now is not None and now < VANISHED * usual

    def _growing(self, row: Row) -> bool:
        """Whether the generator's gradient is far above what it was: a critic that is still finding its scale."""
        usual = self._usual("gradient_generator")
        now = row.get("gradient_generator")
        return usual is not None and now is not None and now > GROWING * usual

    def _usual(self, name: str) -> float | None:
        history = self._memory["history"].get(name, [])
        return statistics.median(history) if len(history) >= LEAST_TICKS else None

    def _runaway(self, row: Row) -> list[Finding]:
        """Losses and gradients far above what they were."""
        limits = {name: self._limit(name) for name in _GRADUAL if row.get(name) is not None}
        away = [name for name, limit in limits.items() if abs(row[name]) > limit]
        well = all(abs(row[name]) < limit / 10 for name, limit in limits.items())
        for name in limits:
            if name not in away:
                kept = [*self._memory["history"].get(name, []), abs(row[name])]
                self._memory["history"][name] = kept[-MEMORY_TICKS:]
        what = ""
        if away:
            usual = self._usual(away[0])
            compared = f"{abs(row[away[0]]):.3g}" + ("" if usual is None else f", usually {usual:.3g}")
            what = f"{_GRADUAL[away[0]][0]} has run away ({compared})"
        finding = (
            "divergence",
            f"The {what}: the two networks drive each other apart, and the images fall to noise or to a flat colour.",
            "Halve training.learning_rate (the best checkpoint is kept, to go back to); where that does not help, raise "
            "training.gamma fourfold, or use training.precision=fp32.",
        )
        return self._tell("divergence", bool(away), well, (None, RUNAWAY_TICKS), finding)

    def _limit(self, name: str) -> float:
        """What the value may not exceed: a hundredfold running median; for the discriminator's loss the lowest median."""
        usual, lowest = self._usual(name), self._memory["lowest"]
        # A slow climb takes its median along. A discriminator's loss is bounded by the data, raw scores of fakes are not.
        if usual is not None and name == "loss_discriminator":
            usual = lowest[name] = min(usual, lowest.get(name, usual))
        limit = math.inf if usual is None else RUNAWAY * max(usual, _GRADUAL[name][1])
        if name == "loss_generator" or (name == "loss_discriminator" and self.scores == "raw"):
            limit = min(limit, MOST_LOSS[self.scores])
        return limit

    def _collapse(self, row: Row) -> list[Finding]:
        found = []
        for name, ratio in (row.get("diversity") or {}).items():
            of_class = "" if name == "all" else f" of class {name}"
            finding = (
                "collapse",
                f"The generated images{of_class} are nearly all alike: they differ from each other {100 * ratio:.0f} % as much "
                "as the real ones do (mode collapse).",
                (
                    ""
                    if name == "all"
                    else f"Look at how many real images{of_class} there are, and pool rare classes or set "
                )
                + ("Set " if name == "all" else "training.balanced=true; set ")
                + "training.augment.policy [colour, translation, cutout], let conditions fade in with "
                "training.label_blend_kimg, or use model.family=r3, whose loss is the hardest to collapse.",
            )
            limits = (COLLAPSED_VALIDATIONS, COLLAPSED_FOR_LONG)
            found += self._tell(f"collapse {name}", ratio < COLLAPSED, ratio > RECOVERED, limits, finding)
        return found

    def _memorisation(self, row: Row) -> list[Finding]:
        near = row.get("nearest") or {}
        if any(name not in near for name in ("share_closer", "expected", "near_train", "near_held_out", "near_error")):
            return []
        close = near["share_closer"] >= TOO_CLOSE * near["expected"]
        # Samples that are blurred or all alike come close to any image; copies come close to training images only.
        drawn = near["near_train"] - near["near_held_out"] > TOO_CLOSE_ERRORS * near["near_error"]
        finding = (
            "memorisation",
            f"The generator begins to repeat training images: {100 * near['share_closer']:.0f} % of its images lie closer to "
            f"one than all but {100 * near['expected']:.0f} % of held-out real images do. Such images may show a patient.",
            "Do not release this model before `synthoma evaluate` has looked at privacy. Stop at an earlier checkpoint, add "
            "training.augment.policy, training.symmetries (where anatomy permits) or more patients, or take narrower networks.",
        )
        well = near["share_closer"] < 0.5 * TOO_CLOSE * near["expected"]
        return self._tell("memorisation", close and drawn, well, (COPIED_VALIDATIONS, COPIED_FOR_LONG), finding)

    def _progress(self, row: Row) -> list[Finding]:
        """Count validations since the best, and early stopping by patience."""
        memory, patience = self._memory, self.settings.patience
        best = memory["best"]
        if best is None or row["kid"] < best["kid"] - row["kid_se"]:
            memory["best"] = {name: row[name] for name in ("kid", "kid_se", "images_seen")}
            memory["since_best"] = 0
        else:
            memory["since_best"] += 1
        since, best = memory["since_best"], memory["best"]
        finding = (
            "no_progress",
            f"The images have not come nearer to the real ones in {since} validations: the best KID, {best['kid']:.3g}, was "
            f"measured at {best['images_seen'] / 1000:g} kimg.",
            "The best checkpoint is released. For a longer search raise training.health.patience.",
        )
        bad = patience is not None and since >= patience
        return self._tell("no_progress", bad, since == 0, (1, None), finding)

    def _rising_kid(self, row: Row) -> list[Finding]:
        best = self._memory["best"]
        noise = math.hypot(row["kid_se"], best["kid_se"])
        risen = row["kid"] - best["kid"] > KID_ERRORS * noise
        if best["kid"] > 0 < row["kid"]:
            relative = math.hypot(row["kid_se"] / row["kid"], best["kid_se"] / best["kid"])
            risen = risen or math.log(row["kid"] / best["kid"]) > KID_LOG_ERRORS * relative
        bad = risen and row["kid"] > KID_RISE * max(best["kid"], 0.0)
        finding = (
            "divergence",
            f"The images get worse: their distance from the real ones (KID) is {row['kid']:.3g}, and was {best['kid']:.3g} at "
            f"{best['images_seen'] / 1000:g} kimg.",
            "The checkpoint of then is kept. Halve training.learning_rate or raise training.gamma fourfold; with few "
            "images add augmentation, or set training.health.patience so that such a run ends by itself.",
        )
        return self._tell("divergence kid", bad, not bad, (None, KID_VALIDATIONS), finding)

    def _flat(self, row: Row) -> list[Finding]:
        """A run that went bad before it was first measured: there is no better time to compare with, but flat pictures.

        While a network grows its images are coarse, and flat ones are no yardstick.
        """
        best, flat = self._memory["best"], row.get("kid_flat")
        if flat is None or self._memory["level"] is not None:
            return []
        bad = row["images_seen"] >= 1000 * LEARNED_KIMG and best["kid"] >= LEARNED * flat
        finding = (
            "divergence",
            f"Nothing was learned in {row['images_seen'] / 1000:g} kimg: the images have never been much nearer to the real ones "
            f"(KID {best['kid']:.3g} at best) than pictures of one flat colour are ({flat:.3g}).",
            "Begin anew with the recipe's own training.learning_rate, or a tenth of it; look at the real images in the private "
            "report, and use training.precision=fp32 where that does not help.",
        )
        return self._tell("divergence flat", bad, not bad, (FLAT_VALIDATIONS, FLAT_FOR_LONG), finding)


def small_data_warning(count: int) -> str | None:
    """What to expect of a GAN trained on `count` images, and what helps; None from 1,000 images on.

    The figures are what users of StyleGAN2-ADA, BMSG-GAN and HA-GAN report of such sets.
    """
    if count >= SMALL_DATA:
        return None
    remedies = (
        "What helps, in this order: begin from a model of similar images and keep the first layers of its discriminator "
        "(--set training.init_from=RUN, training.freeze=4); differentiable augmentation (training.augment.policy "
        "[colour, translation, cutout]); training.symmetries where anatomy permits; model.family=r3; narrow networks "
        "(widths of 32 to 128); training.health.patience, so that training ends before it copies."
    )
    if count < VERY_SMALL_DATA:
        return (
            f"{count} training images are very few. Below 300, GANs trained from nothing collapse to a few pictures or repeat "
            "the training images; others got usable results only from a pretrained model at a low rate, and with little "
            f"diversity. Do not expect new patients from it, and look at the privacy findings before any use. {remedies}"
        )
    return (
        f"{count} training images are few. Below 1,000, expect less diversity than the real images have and, in long runs, "
        "repeated training images; the best checkpoint often comes early, and conditions on rare classes collapse first. "
        f"{remedies}"
    )
