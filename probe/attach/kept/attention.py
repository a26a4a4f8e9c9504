"""Reads the attention that each cell gives to each word, from the calls that the waist shows."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from math import prod

import torch
from torch import Tensor

from probe.attach.kept.keeping import Kept, Reading
from probe.attach.kept.passes import Pass, Place, Shared, Text, shared, span
from probe.attach.kept.related import RelationReader
from probe.attach.kept.relations import View
from probe.attach.kept.remedy import unheard, wordless
from probe.attach.kept.waiting import At, Waiting, keyed
from probe.attach.model.families import Family, grid_of
from probe.attach.model.infer import Joins, concluded, foreign, pools, settled, unknown
from probe.attach.model.layout import Plane
from probe.attach.precision import own_precision
from probe.attach.text.lexicon import EVERY, Lexicon, by_word
from probe.attach.text.opening import Whose
from probe.attach.text.rows import Row
from probe.attach.waist import Call, probabilities
from probe.axes import Kind
from probe.errors import UnknownFamily
from probe.site import Site


@dataclass
class AttentionReader:
    """Collects [word, cells] per step, site, branch and picture, on the model's device."""

    family: Family
    branches: tuple[str, ...] = ("cond",)
    lexicons: dict[Whose, Lexicon] = field(default_factory=dict)
    places: dict[tuple[str, int], Place] = field(default_factory=dict)
    kept: Kept = field(default_factory=Kept)
    relations: RelationReader = field(default_factory=RelationReader)
    exact: bool = False  # the softmax is taken anew at every site, not from the kernel's float32 sum
    ran: set[tuple[int, str, str]] = field(default_factory=set)  # step, denoiser and branch of all passes
    _heard: set[str] = field(default_factory=set)
    _taken: Counter[str] = field(default_factory=Counter)
    _waiting: Waiting = field(default_factory=Waiting)
    _shared: dict[tuple[int, int, int, tuple[int, ...]], list[Shared]] = field(default_factory=dict)  # in this pass
    joins: Joins = field(default_factory=Joins)  # runs in the first passes of a model that is not in the table
    _plane: Plane | None = None
    _weights: dict[tuple[str, int, int, bool], tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.relations.ran = self.ran

    def open(self, lexicons: Mapping[Whose, Lexicon]) -> None:
        """The words of each branch are known."""
        self.lexicons = dict(lexicons)
        self.name(tuple(branch for branch in self.branches if "#" in branch))
        read = (lexicon for (branch, _), lexicon in self.lexicons.items() if branch in self.branches)
        self.relations.width = len({label for lexicon in read for label in lexicon.labels})

    def admit(self, rows: Sequence[Row]) -> None:
        """Where all branches are read, those that run again are read too, with the words of the first turn."""
        if EVERY in self.branches:
            again = dict.fromkeys(row.branch for row in rows if row.branch.partition("#")[0] in self.branches)
            self.name(tuple(branch for branch in again if branch not in self.branches))

    def name(self, branches: tuple[str, ...]) -> None:
        """Read these branches, those that run again ("cond#2") with the words of the first turn."""
        self.branches = tuple(dict.fromkeys((*self.branches, *branches)))
        for branch in branches:
            base = branch.partition("#")[0]
            self.lexicons |= {(branch, i): lexicon for (b, i), lexicon in self.lexicons.items() if b == base}

    def begin_pass(self, current: Pass) -> None:
        """A forward pass starts."""
        self._plane = current.plane
        self._heard.clear()
        self._taken.clear()
        self._waiting.begin_pass()
        self._shared.clear()
        self.ran.update((current.step, current.denoiser, row.branch) for row in current.rows)

    def read(self, call: Call, lse: Tensor | None, current: Pass) -> None:
        """Take one call's columns. Raises UnknownFamily where it cannot be said what asks and what is asked."""
        self._heard.add(call.path)
        if self.joins.running:
            current = self._learn(call, current)
        offset, each = self._share(call, current)
        key = (call.path, 0 if offset else call.rank)
        if key not in self.places:
            self.places[key] = self._place(call, current, each)
        if self.kept.wants(current.step) and self._asked(self.places[key]):
            sharing = offset, each, call.q.shape[0] // each, current.texts
            if sharing not in self._shared:
                self._shared[sharing] = shared(current, self.branches, *sharing[:3])
            own = self._shared[sharing]
            owners = [(entries, At(current.step, key, images, *whose)) for whose, images, entries in own]
            if owners:
                self._waiting.add(call if self.relations.asked.kinds else keyed(call), lse, owners)
        if self._waiting.full or self.joins.running:
            self.read_waiting()

    def _asked(self, place: Place) -> bool:
        """Whether anything is wanted of a place: relations, or words."""
        return bool(self.relations.asked.kinds) or (place.reads and self.relations.width > 0)

    @own_precision()
    def read_waiting(self) -> None:
        """Take the calls that wait."""
        for call, lse, ats in self._waiting.each(self._kind):
            self._take(call, lse, ats)
        self._waiting.clear()

    def _kind(self, at: At) -> Hashable:
        """What calls that are read as one have alike beside their shapes; None for those that are read alone."""
        place = self.places[at.key]
        site = None if self.relations.asked.kinds else place.site
        return None if site is None else (site.kind, site.grid, site.frames, place.reads, place.folded)

    def _take(self, call: Call, lse: Tensor | None, ats: Sequence[At]) -> None:
        """Take the rows of one prompt and branch, of one call or of several that are read as one."""
        at = ats[0]
        place, lexicon = self.places[at.key], self.lexicons.get((at.branch, at.prompt))
        if place.reads and self.relations.asked.words and lexicon is not None:
            means, heads = self._maps(call, lse, place, (at.branch, at.prompt, at.text))
            for i, (own, image) in enumerate((each, image) for each in ats for image in each.images):
                reading = Reading(own.prompt, means[i], None if heads is None else heads[i])
                self.kept.add(own.step, own.key, own.branch, image, reading)
        if self.relations.asked.kinds:
            self.relations.read(call, lse, self._view(call, place, at), lexicon, self.kept)

    def _view(self, call: Call, place: Place, at: At) -> View:
        """What lies where in a call, for relations other than cells to words."""
        joint = place.site is not None and place.site.kind == "joint"
        among_text = place.site is None and at.text <= call.rows == call.columns  # all of it, not one encoder's part
        cells, first = span(call, place.site, self.family, at.text) if place.site is not None else (None, 0)
        return View(
            place=at.key,
            branch=at.branch,
            step=at.step,
            images=at.images,
            site=place.site,
            picture=cells if place.site is not None and place.site.kind != "cross" else None,
            first=first,
            text=at.text if joint or among_text else 0,
            folded=place.folded,
            temporal=place.temporal,
        )

    def _learn(self, call: Call, current: Pass) -> Pass:
        """The pass with the plane as this call and those before it have shown it."""
        if self.family.text == "unknown":
            self.family, self._plane = settled(self.family, call.rows, call.columns, current, self.joins)
        return replace(current, plane=self._plane, texts=current.attended if self.family.effective else current.texts)

    def rest(self, current: Pass) -> None:
        """A pass has run. In the first step all of it is read, so that what is wrong shows at once; then little of it
        may wait for more.
        """
        self._waiting.end_pass()
        if not current.step or self.relations.asked.kinds:
            self.read_waiting()

    def end_pass(self, current: Pass) -> None:
        """A forward pass has ended. Raises UnknownFamily if the layout is not known, NoMatch if no site has words."""
        if self.joins.running:
            self.joins.stop()
            self.family = concluded(self.family, current.text, reads=any(place.reads for place in self.places.values()))
        if self._heard and self._labelled() and not any(place.reads for place in self.places.values()):
            raise wordless(self.places)

    def _labelled(self) -> set[str]:
        """The branches of which words are wanted."""
        wanted = self.branches if self.relations.asked.words else ()
        return {branch for (branch, _), lexicon in self.lexicons.items() if branch in wanted and lexicon.labels}

    def _share(self, call: Call, current: Pass) -> tuple[int, int]:
        """(first row, batch entries a row): frames and cells may lie in the batch, and calls may share its rows."""
        count, rows = call.q.shape[0], len(current.rows)
        if count % rows == 0:
            return 0, count // rows
        first = self._taken[call.path]
        self._taken[call.path] += count
        return first, 1

    def _maps(self, call: Call, lse: Tensor | None, place: Place, whose: Text) -> tuple[Tensor, Tensor | None]:
        """The probability that each cell gives to each word: the mean over heads [b, w, n], and the heads that are kept
        apart [b, h, w, n]; frame by frame in n.
        """
        assert place.site is not None
        cells, first = span(call, place.site, self.family, whose[-1])
        beside = place.site.kind == "cross" and call.columns > whose[-1]
        columns, weights, offset = self._columns(whose, call.q.device, beside)
        asked = columns + first if first else columns
        p = probabilities(call, cells, asked, lse, exact=self.exact).detach()  # [b * f, h, n, t]
        mean = by_word(p.mean(1, keepdim=True), weights, offset, place.folded).squeeze(1)
        chosen = self.kept.wish.chosen_heads(call.heads)
        apart = p if len(chosen) == call.heads else p[:, list(chosen)]
        return mean, by_word(apart, weights, offset, place.folded) if chosen else None

    def _columns(self, whose: Text, device: torch.device, beside: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Columns of the text that are read; `beside`: cells ask the picture's keys in the same call."""
        if (*whose, beside) not in self._weights:
            lexicon = self.lexicons[whose[:2]].apart() if beside else self.lexicons[whose[:2]]
            self._weights[*whose, beside] = lexicon.weights(device, self.family.filled(whose[-1]))
        return self._weights[*whose, beside]

    def _place(self, call: Call, current: Pass, each: int) -> Place:
        """Tell cross, joint and self-attention apart by their shapes."""
        rows, columns, text, where = call.rows, call.columns, current.text, current.plane
        if pools(self.family, call.rows, where) or (text and each == text and where.frames != text):  # one by one
            return Place(None, False)
        joint = {self.family.total(where.tokens, t) for t in current.texts} if self.family.joint else set[int]()
        if rows == columns and rows in joint:
            return Place(self._site(call, "joint", (where.height, where.width), where.frames), True)
        if text and columns == text and not (rows == columns and (joint or call.path.endswith("attn1"))):
            return self._grid_place(call, current, each, "cross")
        if text and columns in (rows + text, self.family.others + text):  # keys of others beside the text's
            return self._grid_place(call, current, each, "cross")
        if rows == columns and not (joint and rows in {text, self.family.filled(text), *current.parts}):
            return self._grid_place(call, current, each, "self")
        return self._other(call, current)

    def _grid_place(self, call: Call, current: Pass, each: int, kind: Kind) -> Place:
        """A site whose queries are cells: of all frames, of one frame with the others in the batch, or of one cell."""
        where, frames = current.plane, current.plane.frames
        folded = each if each == frames else 1
        grid = grid_of(call.rows * folded // frames, where.height, where.width)
        if grid is not None and call.rows * folded == frames * prod(grid):
            return Place(self._site(call, kind, grid, frames), kind != "self", folded)
        grid = grid_of(each, where.height, where.width)
        if kind == "self" and call.rows == frames and grid is not None:
            return Place(self._site(call, kind, grid, frames), False, temporal=True)
        return self._other(call, current)

    def _other(self, call: Call, current: Pass) -> Place:
        """What asks is no cell, or what is asked is neither text nor picture, but adapters' or, as GLIGEN's, boxes'."""
        among = {current.text, self.family.filled(current.text), *current.texts, *current.parts}
        others = self.family.text == "cross" and call.rows == call.columns and not self._both(call.rows, current)
        if call.rank or call.rows in among or others or self.family.text == "none":
            return Place(None, False)
        if call.columns != call.rows and foreign(self.family, call.columns, current):
            return Place(None, False)
        if self.family.inferred:
            raise unknown(
                self.family.name,
                f"{call.path} attends from {call.rows} rows to {call.columns} columns: neither the {current.text} "
                f"columns of text nor a grid of {current.plane.height} x {current.plane.width} cells fits",
            )
        raise UnknownFamily(
            f"{call.path}: attention of {call.rows} rows to {call.columns} columns fits neither the picture "
            f"({current.plane.frames} x {current.plane.height} x {current.plane.width} cells) nor the text "
            f"({current.text} columns) of a {self.family.name} layout; "
            "describe it in probe.attach.model.families.FAMILIES"
        )

    def _both(self, rows: int, current: Pass) -> bool:
        """Whether so many tokens could be text and picture in one sequence."""
        where = current.plane
        return grid_of((rows - current.text) // where.frames, where.height, where.width) is not None

    def _site(self, call: Call, kind: Kind, grid: tuple[int, int], frames: int) -> Site:
        path = call.path if call.rank == 0 else f"{call.path}#{call.rank + 1}"
        return Site(path=path, kind=kind, grid=grid, heads=call.heads, order=len(self.places), frames=frames)

    def readings(self) -> dict[tuple[str, int], Site]:
        """The sites with words, by place, in the order in which they ran."""
        if not self.relations.asked.words:
            return {}
        return {key: place.site for key, place in self.places.items() if place.reads and place.site is not None}

    def sites(self) -> tuple[Site, ...]:
        """The sites with words, in the order in which they ran."""
        return tuple(self.readings().values())

    def idle(self) -> set[str]:
        """Modules that were seen and hold no words: there is nothing to read in them."""
        if self.relations.asked.kinds:
            return set()
        reading = {path for (path, _), place in self.places.items() if place.reads}
        return {path for path, _ in self.places} - reading

    def check(self, ran: set[str], current: Pass) -> None:
        """Every attention module that ran must have shown a call in this pass, and so must those that were read in
        earlier ones: coverage is judged by readings.
        """
        ran = ran | self._read_before(current)
        silent = sorted(p for p in ran - self._heard if not any(fnmatch(p, known) for known in self.family.silent))
        if silent:
            raise unheard(silent, len(ran), current.step, before=any((path, 0) in self.places for path in silent))

    def _read_before(self, current: Pass) -> set[str]:
        """The modules of this denoiser that must be read at every step: a turn that runs again may skip some."""
        if not self.kept.wants(current.step):
            return set()
        here = {row.branch for row in current.rows if "#" not in row.branch}
        words = {path for (path, _), place in self.places.items() if place.reads} if here & self._labelled() else set()
        held = (key for places in self.relations.held.values() for key in places)
        related = {path for (path, _), branch in held if branch in here}
        return {path for path in words | related if path.partition(".")[0] == current.denoiser}
