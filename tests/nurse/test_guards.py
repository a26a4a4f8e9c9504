"""What cannot be done says so, what would be lost is told, and what runs away keeps the trace."""

import re
from ast import literal_eval

import diffusers
import pytest
import torch

import probe
from probe.attach.change.alter import gain
from probe.attach.change.forgetful import FORGETFUL
from probe.attach.model.prediction import Level
from probe.errors import BadInput, Diverged, NoSuchWord, ProbeWarning, RecordingError
from probe.intervention import Maps, Score, Search, Seen
from probe.nurse import (
    Adaptive,
    AStar,
    AttendAndExcite,
    BoxDiff,
    ComposableDiffusion,
    Conform,
    DivideAndBind,
    InitNO,
    LayoutGuidance,
    PromptSchedule,
    ScaleAttention,
    Separate,
    StructuredDiffusion,
    SynGen,
)
from probe.study.nursing import nurse_for, settings_of
from tests import pipelines
from tests.fingerprint import fingerprint
from tests.nurse.drawing import FEW, PROMPT, SIZES, draw, drawn, pipe

OPTIONS = {"PNDMScheduler": {"skip_prk_steps": True}, "DDIMScheduler": {"clip_sample": False}}
SPLIT = "a xylophonist and a cat"
EXCITE = AttendAndExcite(subjects=("cat",), thresholds={}, max_steps=3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of diffusers with numpy
@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("PNDMScheduler", True),
        ("HeunDiscreteScheduler", True),
        ("KDPM2DiscreteScheduler", True),
        ("DDIMScheduler", False),
        ("EulerDiscreteScheduler", False),
        ("DPMSolverMultistepScheduler", False),
        ("DEISMultistepScheduler", False),
    ],
)
def test_which_schedulers_forget_what_is_moved_at_their_second_call(name, lost):
    after = []
    for shift in (0.0, 0.5):
        scheduler = getattr(diffusers, name)(**OPTIONS.get(name, {}))
        scheduler.set_timesteps(6)
        z, noise = torch.ones(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.3)
        for call in range(2):
            z = z + shift * call
            z = scheduler.step(noise, scheduler.timesteps[call], z).prev_sample
        after.append(z)
    assert torch.equal(*after) is lost
    assert (name in FORGETFUL) is lost


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of diffusers with numpy
@pytest.mark.parametrize(
    "method",
    [
        AttendAndExcite(subjects=("cat",), thresholds={}, max_steps=1),
        LayoutGuidance(boxes={"cat": (0, 0, 0.5, 1)}, max_steps=1, max_refinements=0, enough=0.0),
    ],
)
def test_a_scheduler_whose_latents_grow_with_the_noise_is_moved_as_far(method):
    """The move as a share of the latents, from one noise: Euler's latents are 14.6 times as large as DDIM's."""
    moves = {}
    for name in ("DDIMScheduler", "EulerDiscreteScheduler"):
        other = pipelines.load("sd1")
        other.scheduler = getattr(diffusers, name).from_config(other.scheduler.config, timestep_spacing="trailing")
        with probe.record(other, interventions=[method]) as recording:
            other(PROMPT, generator=torch.Generator().manual_seed(0), **SIZES | FEW)
        [entry] = recording.trace.extra["nursing"]
        moves[name] = entry["shift"] / entry["norm"]
    assert moves["EulerDiscreteScheduler"] == pytest.approx(moves["DDIMScheduler"], rel=0.02)


def test_layout_guidance_goes_by_the_noise_in_the_latents():
    """sigma^2: where latents keep their variance 1 - alpha-bar; where they grow, Euler's own sigma; in a flow, its."""
    layout, excite = LayoutGuidance(boxes={"cat": (0, 0, 0.5, 1)}), EXCITE
    steady, growing, flow = Level("epsilon", 0.8, 0.6), Level("epsilon", 0.8, 0.6, 1.25), Level("flow", 0.4, 0.6)
    assert [gain(layout, at) for at in (steady, growing, flow)] == pytest.approx([0.36, 0.75**2, 0.36])
    assert [gain(excite, at) for at in (steady, growing, flow)] == pytest.approx([1.0, 1.25**2, 1.0])


def test_such_a_scheduler_is_told_with_the_remedy():
    forgetful = pipelines.load("sd1")
    forgetful.scheduler = diffusers.PNDMScheduler.from_config(forgetful.scheduler.config, skip_prk_steps=True)
    with (
        pytest.warns(
            ProbeWarning, match=r"PNDMScheduler goes on .*DDIMScheduler\.from_config\(pipe\.scheduler\.config"
        ),
        probe.record(forgetful, interventions=[EXCITE]),
    ):
        forgetful(PROMPT, generator=torch.Generator().manual_seed(0), **SIZES | FEW)


class NotANumber(AttendAndExcite):
    """Its loss is lost at the second step."""

    def score(self, maps: Maps) -> Score:
        return Score(maps.A.sum() * (float("nan") if maps.previous is not None and maps.past is not None else 1.0))


class NoSlope(AttendAndExcite):
    """Its loss is a number and its gradient is none."""

    def score(self, maps: Maps) -> Score:
        return Score((maps.A * 0).sum().sqrt() + 1)


def test_numbers_that_run_away_keep_the_steps_before():
    with (
        pytest.raises(Diverged, match="the loss is nan at step 1; lower scale_factor.*float32$") as stopped,
        probe.record(pipe("sd1"), interventions=[NotANumber(subjects=("cat",), thresholds={})]) as recording,
    ):
        pipe("sd1")(PROMPT, generator=torch.Generator().manual_seed(0), **SIZES | FEW)
    trace = recording.trace
    assert trace.run.steps == 1 and trace.node("latents").sizes["time"] == 2
    assert [entry["step"] for entry in trace.extra["nursing"]] == [0, 1]
    assert "cat" in trace.labels
    assert stopped.value.trace is trace


def test_a_gradient_that_is_no_number_stops():
    with pytest.raises(Diverged, match="the gradient is not finite at step 0"):
        draw("sd1", PROMPT, NoSlope(subjects=("cat",)))


class Nothing(AttendAndExcite):
    """There is nothing to do."""

    def score(self, maps: Maps) -> Score:
        return Score(0.0 * maps.A.sum())


def test_a_loss_of_zero_is_no_step():
    result, recording = drawn("sd1", PROMPT, Nothing(subjects=("cat",), max_steps=2))
    assert (result == draw("sd1")).all()
    assert [entry["shift"] for entry in recording.trace.extra["nursing"]] == [0.0, 0.0]


def test_a_subject_in_several_pieces_is_read_by_its_last():
    one = EXCITE.model_copy(update={"subjects": ("xylophonist",), "max_steps": 1})
    says = r"text_encoder reads 'xylophonist' in 9 pieces \(x, y, lo, p, .*, t\), and AttendAndExcite goes by the last"
    with pytest.warns(ProbeWarning, match=says):
        _, recording = drawn("sd1", SPLIT, one)
    assert len(recording.trace.words[1].tokens["text_encoder"]) > 1
    assert recording.trace.extra["nursing"][0]["shift"] > 0


def test_what_is_split_is_told_once_for_all_prompts_and_methods():
    one = EXCITE.model_copy(update={"subjects": ("xylophonist", "cat"), "max_steps": 1})
    boxed = BoxDiff(boxes={"xylophonist": (0, 0, 0.5, 1)}, thresholds={}, max_steps=1)
    with pytest.warns(ProbeWarning) as told:
        draw("sd1", [SPLIT, SPLIT], one, boxed)
    [said] = [str(each.message) for each in told]
    assert [said.count(f"and {name} goes by the last") for name in ("AttendAndExcite", "BoxDiff")] == [1, 1]
    assert "'cat'" not in said and said.endswith("by a word in one piece, in the prompt too")


@pytest.mark.parametrize(
    "item",
    [
        SynGen(bindings={"xylophonist": ()}, max_steps=1),  # takes the largest of the pieces at each cell
        LayoutGuidance(boxes={"xylophonist": (0, 0, 0.5, 1)}, max_steps=1, enough=1.0),
        EXCITE.model_copy(update={"subjects": ("xylophonist",), "strength": 0.0}),
        ScaleAttention(factors={"xylophonist": 2.0}),
    ],
    ids=lambda item: item.method,
)
def test_nothing_is_told_where_every_piece_counts_or_nothing_is_moved(item):
    draw("sd1", SPLIT, item)  # a warning is an error here


BAD = {
    "no subjects": (
        AttendAndExcite(),
        BadInput,
        r"AttendAndExcite has no subjects; name them: subjects=\['cat'",
    ),
    "unknown": (AttendAndExcite(subjects=("zebra",)), NoSuchWord, "'zebra' is not in the prompt; its words are"),
    "one subject": (AStar(subjects=("cat",)), BadInput, "keeps subjects apart, and there is only cat"),
    "one group": (
        Conform(groups=(("cat",),)),
        BadInput,
        r"^Conform tells .* groups=\[\['cat'\]\]; give two or more",
    ),
    "one group to separate": (Separate(groups=(("cat",),)), BadInput, "^Separate tells groups of words apart"),
    "no bindings": (SynGen(bindings={}, subjects=("cat",)), BadInput, r"^SynGen has no bindings; .*: bindings=\{'car'"),
    "no boxes": (BoxDiff(boxes={}), BadInput, r"BoxDiff has no boxes; .*: boxes=\{'cat': \[0, 0, 0.5, 1\]\}$"),
    "outside": (LayoutGuidance(boxes={"cat": (0, 0, 1, 1.5)}), BadInput, "the box of cat is .*between 0 and 1"),
    "small": (BoxDiff(boxes={"cat": (0.5, 0.5, 0.501, 0.501)}), BadInput, "smaller than a cell of the"),
    "stranger": (
        DivideAndBind(subjects=("cat",), attributes={"dog": "red"}),
        BadInput,
        "'dog', which is not a subject",
    ),
    "not nursed": (Adaptive(subjects=("cat",), nursed=("dog",)), BadInput, "nursed names 'dog', which is no subject"),
    "one subject twice": (
        AStar(subjects=("cat", "cat")),
        BadInput,
        "^AStar has one word twice in subjects, as 'cat' and 'cat'; leave one out .*'word#2'",
    ),
    "spelt twice": (EXCITE.model_copy(update={"subjects": ("cat", "Cat#1")}), BadInput, "as 'cat' and 'Cat#1'"),
    "apart from itself": (Conform(groups=(("cat",), ("cat",))), BadInput, "^Conform has one word twice in groups"),
    "in two groups": (Separate(groups=(("cat",), ("balloon", "cat"))), BadInput, "^Separate has .* twice in groups"),
    "its own attribute": (
        DivideAndBind(subjects=("cat", "balloon"), attributes={"cat": "cat"}),
        BadInput,
        "^DivideAndBind has .* twice in a pair of attributes",
    ),
    "its own modifier": (SynGen(bindings={"cat": ("cat",)}), BadInput, "^SynGen has .* twice in a phrase of bindings"),
    "bound twice": (SynGen(bindings={"cat": (), "CAT": ()}), BadInput, "twice in the nouns of bindings"),
    "subject of groups": (Conform(groups=(("cat",), ("red",)), subjects=("cat", "cat")), BadInput, "in subjects"),
    "two boxes": (BoxDiff(boxes={"cat": (0, 0, 1, 1), "CAT": (0, 0, 0.5, 1)}), BadInput, "^BoxDiff .* twice in boxes"),
    "no step": (
        EXCITE.model_copy(update={"max_steps": 0, "thresholds": {90: 0.5}}),
        BadInput,
        r"max_steps=0 and thresholds=\{90: 0.5\}, so it does nothing at the steps 0 to 2 .*: raise max_steps, or",
    ),
    "no step at all": (EXCITE.model_copy(update={"max_steps": 0}), BadInput, r"thresholds=\{\}, so it does nothing"),
    "encoder": (EXCITE.model_copy(update={"encoder": "t5"}), BadInput, "there are text_encoder"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_says_so(name):
    item, error, says = BAD[name]
    with pytest.raises(error, match=says):
        draw("sd1", PROMPT, item)


def test_two_occurrences_of_a_word_are_two_subjects_and_one_modifier_may_serve_two_nouns():
    AStar(subjects=("cat", "cat#2")).check()
    Conform(groups=(("red", "cat"), ("red#2", "cat#2"))).check()
    SynGen(bindings={"cat": ("red",), "dog": ("red",)}).check()


def test_what_is_switched_off_may_do_nothing():
    off = EXCITE.model_copy(update={"max_steps": 0, "thresholds": {90: 0.5}, "strength": 0.0})
    assert (draw("sd1", PROMPT, off) == draw("sd1")).all()


@pytest.mark.parametrize("item", [EXCITE, ScaleAttention(factors={"cat": 2.0})], ids=lambda item: item.method)
def test_a_prompt_without_the_subjects_is_named_with_what_to_do(item):
    says = rf"^{item.method} cannot change the prompt 'a car and a bowl': 'cat' is not in .* in calls of their own"
    with pytest.raises(NoSuchWord, match=says):
        draw("sd1", [PROMPT, "a car and a bowl"], item)


REFUSED = {
    "BoxDiff.share": [3, 0, -0.1],
    "BoxDiff.reach": [-1],
    "AttendAndExcite.sigma": [0, -1],
    "AttendAndExcite.max_steps": [-1],
    "AttendAndExcite.max_refinements": [-1],
    "AttendAndExcite.scale_range": [[1, -1]],
    "AttendAndExcite.resolution": [[0, 0], [16, 1], [-4, 4]],
    "AttendAndExcite.thresholds": [{-1: 0.5}],
    "AttendAndExcite.strength": [float("nan"), float("inf")],
    "Conform.tau": [0, -1, 1e-3],
    "Separate.gain": [-0.1, 2],
    "Adaptive.watch": [0, -3],
    "Adaptive.steady": [0],
    "Adaptive.needed": [-0.1, 1.1],
    "InitNO.search": [{"iterations": 0}, {"rounds": -1}, {"last": -1}, {"seed": -1}],
    "InitNO.clean": [-1],
    "DivideAndBind.weights": [{-1: 1.0}, {0: -1.0}],
    "DivideAndBind.at_first": [-1],
    "AStar.high": [0, 2],
    "LayoutGuidance.enough": [-1],
    "ScaleAttention.last": [10],
    "PatchAttention.source": [-1],
}


@pytest.mark.parametrize(("place", "value"), [(place, value) for place in REFUSED for value in REFUSED[place]])
def test_settings_that_no_run_could_follow_are_refused_by_their_name(place, value):
    method, _, setting = place.partition(".")
    needed = {"boxes": {"cat": (0, 0, 0.5, 1)}} if method in ("BoxDiff", "LayoutGuidance") else {}
    says = rf"^the settings of '{method}' cannot be used:\n  {setting}\b.*: Input should be .* \(found "
    with pytest.raises(BadInput, match=says):
        nurse_for(method, "a red cat and a blue bowl", settings={setting: value} | needed)


ALLOWED = [
    AttendAndExcite(subjects=("cat",), sigma=None, max_steps=0, thresholds={0: 1.0}, max_refinements=0),
    AttendAndExcite(subjects=("cat",), scale_range=(0, 0), thresholds={}, resolution=(2, 3)),
    BoxDiff(boxes={"cat": (0, 0, 0.5, 1)}, share=1, reach=0, thresholds={}),
    Conform(groups=(("cat",), ("balloon",)), tau=0.02, thresholds={}),
    AStar(subjects=("cat", "balloon"), high=1, thresholds={}),
    Adaptive(subjects=("cat", "balloon"), watch=1, steady=1, needed=1, predictor=None, thresholds={}),
    InitNO(subjects=("cat",), thresholds={}, search=Search(rounds=0, last=0, iterations=1)),
    ScaleAttention(factors={"cat": 0.5}, first=0, last=1),
]


@pytest.mark.parametrize("item", ALLOWED, ids=lambda item: item.method)
def test_the_last_settings_that_are_allowed_run(item):
    item.check()
    result, _ = drawn("sd1", PROMPT, item)
    assert torch.isfinite(torch.as_tensor(result)).all()


REMEDIES = [
    AttendAndExcite(),
    SynGen(bindings={}),
    Conform(groups=()),
    BoxDiff(boxes={}),
    AStar(subjects=("cat",)),
    ScaleAttention(),
    StructuredDiffusion(),
    PromptSchedule(),
    ComposableDiffusion(),
]


@pytest.mark.parametrize("item", REMEDIES, ids=lambda item: item.method)
def test_a_remedy_can_be_typed_in_python_and_on_the_command_line(item):
    """What stands behind the colon is a setting with a value that is both Python and YAML."""
    with pytest.raises(BadInput) as told:
        item.check()
    setting, value = re.findall(r": (\w+)=([\[{].*[\]}])$", str(told.value))[0]
    typed = settings_of(f"{setting}={value}")
    assert typed == {setting: literal_eval(value)}
    type(item)(**typed).check()


def test_bindings_alone_are_enough():
    _, recording = drawn("sd1", PROMPT, SynGen(bindings={"balloon": ("red",)}, max_steps=1))
    assert recording.trace.extra["nursing"][0]["shift"] > 0


def test_a_model_that_reads_no_text_says_so():
    blind = pipelines.load("kandinsky22")
    with pytest.raises(BadInput, match="has no attention to a text"), probe.record(blind, interventions=[EXCITE]):
        pipelines.run(blind, "kandinsky22")


def test_latents_that_a_callback_replaces_cannot_be_moved():
    def replace(pipe, step, timestep, tensors):
        return {"latents": tensors["latents"].clone()}

    with pytest.raises(RecordingError, match="replaces them after each step"):
        draw("sd1", PROMPT, EXCITE, callback_on_step_end=replace)


class Broken(AttendAndExcite):
    """Breaks off in the middle of a gradient pass's loss."""

    def score(self, maps: Maps) -> Score:
        raise KeyboardInterrupt


class Torn(ScaleAttention):
    """Breaks off inside an attention call."""

    def change(self, seen: Seen) -> torch.Tensor:
        raise KeyboardInterrupt


@pytest.mark.parametrize("item", [Broken(subjects=("cat",)), Torn(factors={"cat": 2.0})], ids=["latents", "attention"])
def test_what_breaks_off_leaves_nothing_behind(item):
    plain, before = draw("sd1"), fingerprint(pipe("sd1"))
    with pytest.raises(KeyboardInterrupt):
        draw("sd1", PROMPT, item)
    assert fingerprint(pipe("sd1")) == before
    assert (draw("sd1") == plain).all()


def test_prompts_that_were_encoded_before_cannot_be_nursed():
    states, _ = pipe("sd1").encode_prompt(PROMPT, "cpu", 1, False)
    with (
        pytest.raises(RecordingError, match="no prompt was encoded"),
        probe.record(pipe("sd1"), interventions=[EXCITE]),
    ):
        pipe("sd1")(prompt_embeds=states, guidance_scale=1.0, **SIZES | FEW)
