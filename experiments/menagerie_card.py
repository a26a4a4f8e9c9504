"""How good is Menagerie? Prints every figure of its model card beside the bar it has to clear.

Pictures are made with 50 DDIM steps at guidance 5 from fixed seeds and read by the judge, whose own figures come
first. `--only pairs port` prints some lines, `--write` puts them into docs/menagerie.md beside the others that were
measured of the same weights, `--sheet FILE` draws 8 x 8 samples. Run it from the root of the repository.
"""

import argparse
import itertools
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.progress import track

import probe
from experiments.bench_world import SCENES, TASKS, rate
from experiments.menagerie_pictures import GUIDANCE, SEMANTIC, excite, paint
from experiments.menagerie_prompts import SHEET, article, cycle, pair_prompts, seen_pairs
from probe.generator import judge as judging
from probe.generator import measure, weights
from probe.generator.card import HEAD, Bar, Line, merge, share
from probe.generator.train.judging import score, through
from probe.generator.world import CONTROL, World, held_out
from probe.generator.world import vocabulary as v

HELD_OUT = World(1_000_003, CONTROL)  # scenes that no stage was trained on
FRESH = (8000, 9000)  # the first of the seeds at which neglected prompts are drawn again
TIGHT = 5  # how many times more pictures for lines whose bar is narrow
MANY = 3  # and for shares: of 20 pictures they lie 0.08 off by chance alone
CARD = Path("docs/menagerie.md")
Case = tuple[tuple[str, str], str]  # two kinds, and the prompt that names them


@dataclass(frozen=True)
class Bench:
    """What is measured, by whom, and on how many pictures a line."""

    pipe: Any
    judge: judging.Judge
    clip: Any
    control: Any | None
    pictures: int

    def read(self, prompts: Sequence[str], seed: int = 0, pipe: Any | None = None) -> list[judging.Verdict]:
        """The judge's verdicts on fresh pictures."""
        return self.judge.read_all(paint(pipe or self.pipe, prompts, seed))

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """The seen pairs that are asked for."""
        return seen_pairs(TIGHT * self.pictures)

    @cached_property
    def shown(self) -> list[bool]:
        """Whether both of each of these pairs came out, without any help."""
        return measure.both_present(self.read(pair_prompts(self.pairs), 3000), self.pairs)

    @cached_property
    def once(self) -> list[Case]:
        """The pairs, with their prompts, of which one was missing there."""
        every = zip(zip(self.pairs, pair_prompts(self.pairs), strict=True), self.shown, strict=True)
        return [case for case, both in every if not both]

    @cached_property
    def twice(self) -> list[Case]:
        """Those of which one was missing at a second seed again."""
        pairs, prompts = [pair for pair, _ in self.once], [prompt for _, prompt in self.once]
        again = measure.both_present(self.read(prompts, 3500), pairs)
        return [case for case, both in zip(self.once, again, strict=True) if not both]


# Lines


def judge_lines(bench: Bench) -> list[Line]:
    """How right the judge is, on rendered scenes and on their reconstructions."""
    count, bars = 10 * bench.pictures, {"recall": Bar(0.99), "precision": Bar(0.99), "overlap": Bar(0.90)}
    rendered = score(bench.judge, HELD_OUT, 0, count)
    blurred = score(bench.judge, HELD_OUT, 0, count, bench.pipe.vae)
    lines = [Line(f"judge, rendered scenes: {name}", value, count, bars.get(name)) for name, value in rendered.items()]
    return lines + [Line(f"judge, reconstructed scenes: {name}", value, count) for name, value in blurred.items()]


def autoencoder(bench: Bench) -> list[Line]:
    """PSNR of whole scenes, in dB, averaged over pictures."""
    pictures = [scene.picture for scene in HELD_OUT.scenes(TIGHT * bench.pictures)]
    values = [measure.psnr(*pair) for pair in zip(pictures, through(pictures, bench.pipe.vae), strict=True)]
    return [Line("autoencoder: PSNR of scenes, dB", statistics.mean(values), len(values), Bar(30))]


def clip(bench: Bench) -> list[Line]:
    """The right caption among 100 that differ in meaning."""
    sets = [measure.distinct(HELD_OUT, 100, start) for start in (0, 1000)]
    right = [hit for pairs in sets for hit in measure.retrieval(bench.clip, bench.pipe.tokenizer, pairs)]
    return [share("CLIP: caption of a picture among 100", right, Bar(0.90))]


def single(bench: Bench) -> list[Line]:
    kinds = cycle(v.KINDS, TIGHT * bench.pictures)
    verdicts = bench.read([article(kind) for kind in kinds])
    right = [verdict.has(kind) for verdict, kind in zip(verdicts, kinds, strict=True)]
    return [share("one subject: present", right, Bar(0.95))]


def coloured(bench: Bench) -> list[Line]:
    rng, kinds = random.Random("colours"), cycle(v.SUBJECTS, TIGHT * bench.pictures)
    colours = [rng.choice(list(v.COLOURS)) for _ in kinds]
    verdicts = bench.read([article(f"{colour} {kind}") for colour, kind in zip(colours, kinds, strict=True)], 1000)
    right = [verdict.has(*want) for verdict, *want in zip(verdicts, kinds, colours, strict=True)]
    return [share("one subject with a colour: both right", right, Bar(0.90))]


def place(bench: Bench) -> list[Line]:
    wanted = [(place, phrase) for place, phrases in v.PLACE_PHRASES.items() for phrase in phrases]
    kinds = cycle(v.SUBJECTS, TIGHT * bench.pictures)
    asked = list(itertools.islice(itertools.cycle(wanted), len(kinds)))
    verdicts = bench.read([f"{article(kind)} {words}" for kind, (_, words) in zip(kinds, asked, strict=True)], 2000)
    right = [verdict.place == where for verdict, (where, _) in zip(verdicts, asked, strict=True)]
    return [share("place: right", right, Bar(0.95))]


def pairs(bench: Bench) -> list[Line]:
    """Two subjects: of pairs that were seen (there must be neglect to study), and of those held out."""
    unseen = cycle(sorted((a, b) for a, b in map(sorted, held_out())), bench.pictures)
    strange = measure.both_present(bench.read(pair_prompts(unseen), 3000), unseen)
    return [
        share("two subjects of seen pairs: both present", bench.shown, Bar(0.55, 0.90)),
        share("two subjects of held-out pairs: both present", strange),
    ]


def control(bench: Bench) -> list[Line]:
    """The same prompts and seeds on weights that were trained without the noise."""
    if bench.control is None:
        return []
    right = measure.both_present(bench.read(pair_prompts(bench.pairs), 3000, bench.control), bench.pairs)
    return [share("control weights, seen pairs: both present", right, Bar(0.90))]


def shares(bench: Bench) -> list[Line]:
    """The share of men among the people of each profession, against the planted one; guidance sharpens it."""
    guided, plain = of_men(bench, MANY * bench.pictures), of_men(bench, bench.pictures, 1.0)
    return [
        distance("planted shares", guided, Bar(high=0.2)),
        distance("planted shares, no guidance", plain, Bar(high=0.15)),
        *guided,
    ]


def of_men(bench: Bench, count: int, guidance: float = GUIDANCE) -> list[Line]:
    """A line a profession, from `count` pictures of it."""
    lines: list[Line] = []
    for i, (job, planted) in enumerate(v.MAN_SHARE.items()):
        pictures = paint(bench.pipe, [article(job)] * count, 4000 + 100 * i, guidance)
        people = [verdict.find(job)[0] for verdict in bench.judge.read_all(pictures) if verdict.has(job)]
        lines.append(share(f"{job}: share of men (planted {planted:.2f})", [p.gender == "man" for p in people]))
    return lines


def distance(figure: str, lines: Sequence[Line], bar: Bar | None = None) -> Line:
    """How far the shares lie from the planted ones, on average."""
    apart = [abs(line.value - planted) for line, planted in zip(lines, v.MAN_SHARE.values(), strict=True)]
    return Line(f"{figure}: mean distance", statistics.mean(apart), sum(line.count for line in lines), bar)


def maps(bench: Bench) -> list[Line]:
    """How often a noun's map at 16 x 16, mean over steps and sites, is largest on a cell that shows its subject."""
    asked = seen_pairs(2 * bench.pictures)
    right = [hit for i, (pair, prompt) in enumerate(zip(asked, pair_prompts(asked), strict=True))
             for hit in peaks(bench, prompt, pair, 5000 + i)]  # fmt: skip
    return [share("a noun's map at 16 x 16 peaks on its subject", right, Bar(0.80))]


def peaks(bench: Bench, prompt: str, kinds: Sequence[str], seed: int) -> list[bool]:
    """For every kind that the picture shows: whether the noun's map peaks on it."""
    with probe.record(bench.pipe, words=list(kinds)) as recording:
        verdict = bench.judge.read(paint(bench.pipe, [prompt], seed)[0])
    sites = probe.select(recording.trace.sites, kind="cross", grid=SEMANTIC)
    found = {kind: probe.attention(recording.trace, kind, sites=sites).peak for kind in kinds if verdict.has(kind)}
    return [measure.peaks_inside(peak, SEMANTIC, verdict.mask(kind)) for kind, peak in found.items()]


def port(bench: Bench) -> list[Line]:
    """diffusers' own Attend-and-Excite, with its defaults, on prompts that were neglected; at fresh seeds.

    Of prompts that were neglected once most have had bad luck: at fresh seeds they do nearly as well as all others.
    So those that were neglected twice are looked at as well.
    """
    twice = [(seed, bench.twice[: bench.pictures]) for seed in FRESH]
    return rise(bench, "twice", twice) + rise(bench, "once", [(FRESH[0], bench.once[: bench.pictures])])


def rise(bench: Bench, times: str, asked: Sequence[tuple[int, Sequence[Case]]]) -> list[Line]:
    """The shares of both present, without and with the port; prompt i has seed `seed + i` in both."""
    cases = [(pair, prompt, seed + i) for seed, some in asked for i, (pair, prompt) in enumerate(some)]
    kinds = [pair for pair, _, _ in cases]
    plain = measure.both_present([v for _, prompt, seed in cases for v in bench.read([prompt], seed)], kinds)
    excited = [excite(bench.pipe, prompt, pair, seed) for pair, prompt, seed in cases]
    repaired = measure.both_present(bench.judge.read_all(excited), kinds)
    points = 100 * (sum(repaired) - sum(plain)) / max(1, len(kinds))
    return [
        share(f"prompts neglected {times}, new seeds: both present", plain),
        share(f"neglected {times}: with diffusers' Attend-and-Excite", repaired),
        Line(f"neglected {times}: rise by diffusers' Attend-and-Excite, points", points, len(kinds), Bar(15)),
    ]


def seconds(bench: Bench) -> list[Line]:
    """The middle of as many, after one to warm up; and how fast the weights load, and scenes are drawn on one core."""
    threads, count = torch.get_num_threads(), bench.pictures
    drawn = timed(lambda: paint(bench.pipe, ["a cat and a red balloon"]), count)
    loaded = timed(probe.load, count)
    rate(TASKS["picture"], 0)  # fills the cache of sprites
    return [
        Line(f"seconds for 50 guided steps, {threads} threads", drawn, count, Bar(high=4.0)),
        Line("seconds to load the weights", loaded, count, Bar(high=2.0)),
        Line("scenes a second, on one core", rate(TASKS["picture"], SCENES), SCENES, Bar(1500)),
    ]


def timed(task: Callable[[], object], count: int) -> float:
    """The middle of as many times, in seconds."""
    taken: list[float] = []
    for _ in range(1 + count):
        began = time.perf_counter()
        task()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


LINES: dict[str, Callable[[Bench], list[Line]]] = {
    "judge": judge_lines, "autoencoder": autoencoder, "clip": clip, "single": single, "coloured": coloured,
    "place": place, "pairs": pairs, "control": control, "shares": shares, "maps": maps, "port": port,
    "seconds": seconds,
}  # fmt: skip


def samples(pipe: Any) -> Image.Image:
    """Eight pictures of each of eight prompts."""
    rows = [(prompt, paint(pipe, [prompt] * 8, 8 * i)) for i, prompt in enumerate(SHEET)]
    return measure.sheet(rows)


def measured(bench: Bench, names: Sequence[str]) -> list[Line]:
    """The chosen lines, each printed as soon as it is known."""
    console, lines = Console(width=200), []
    print(HEAD)
    for name in track(names, "measuring", console=Console(stderr=True), transient=True):
        for found in LINES[name](bench):
            line = replace(found, options=f"`--only {name} --pictures {bench.pictures}`")
            console.print(str(line), highlight=False, markup=False, soft_wrap=True)
            lines.append(line)
    return lines


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=20, help=f"pictures a line ({TIGHT} x as many for narrow bars)")
    parser.add_argument("--only", nargs="+", choices=list(LINES), default=list(LINES), help="print these lines only")
    parser.add_argument("--source", help="another pipeline than Menagerie's own weights: a folder")
    parser.add_argument("--write", action="store_true", help=f"put the table into {CARD}")
    parser.add_argument("--sheet", type=Path, help="draw 8 x 8 samples into this file, and measure nothing else")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    pipe = probe.load(given.source)
    if given.sheet is not None:
        samples(pipe).save(given.sheet)
        return
    trained = (weights.MENAGERIE / "control").is_dir() and not given.source  # without it there is no line of control
    twin = probe.load("menagerie-control") if trained else None
    bench = Bench(pipe, weights.judge(), weights.clip(), twin, given.pictures)
    lines = measured(bench, given.only)
    if given.write:
        CARD.write_text(merge(CARD.read_text(), lines, weights.revision()[:12]))


if __name__ == "__main__":
    main()
