"""Attach to a live pipeline, keep the clock, and always give back.

The pipeline's own loop runs. Step and branch come from its scheduler, its encoded prompts and the cache context it
names, never from counting layer calls. What is put on the pipeline: two hooks per attention module, two on the
denoiser and a ControlNet, and stand-ins for four methods of this one object; all of it is taken off, whatever happens.
"""

from contextlib import ExitStack
from functools import partial
from itertools import chain
from typing import Any, Self

from torch import Tensor, nn

from probe.attach.aside import Asides
from probe.attach.asked.controlnets import Leads
from probe.attach.asked.inquiry import Scene
from probe.attach.borrow import ONCE, around, by_name, here, leases
from probe.attach.change.edit import edit_waist
from probe.attach.change.modules import Module, changed_modules
from probe.attach.kept.budget import Estimate, Estimated, run_length
from probe.attach.kept.guiders import Combined, guiders_of, parts_of, predictions
from probe.attach.kept.outputs import Chosen, choose
from probe.attach.kept.remedy import UNHEARD, check_cache
from probe.attach.kept.states import DepthReader
from probe.attach.kept.thumbnails import pictures_of
from probe.attach.model.attention import named_attention
from probe.attach.model.compiled import check_runs_plainly
from probe.attach.model.families import Family, denoisers, family
from probe.attach.model.infer import weightless
from probe.attach.request import Request
from probe.attach.take import Take
from probe.attach.takes import Takes
from probe.attach.text.hearing import Listener, spoken, state_groups, texts, told
from probe.attach.text.lexicon import check_words
from probe.attach.waist import Call, Waist
from probe.errors import BadInput, Diverged, RecordingError
from probe.intervention import AttentionIntervention, PromptIntervention
from probe.trace import Trace


class Recording:
    """The live object behind `record`: it holds the pipeline while the block runs, and the traces afterwards."""

    def __init__(self, pipe: Any, request: Request, wait: float = 0.0):
        self._pipe: Any = pipe
        self._request, self._wait = request, wait
        self._stack, self._entered = ExitStack(), False
        self._takes = Takes(pipe, request)
        self._asides, self._leads = Asides(), Leads()
        self._edits: Waist | None = None  # below the reader's, which sees what the model itself asks
        self._latents: Tensor | None = None  # the very tensor that the pipeline holds
        self._named: str | None = None  # the branch that the pipeline announced for the next pass

    @property
    def estimate(self) -> Estimate | None:
        """The bytes that the trace of this generation will hold; None before its denoiser starts."""
        return self._takes.budget.estimate

    @property
    def trace(self) -> Trace:
        """The trace of the last generation. Raises NotRecorded while it runs, or when nothing was generated."""
        return self._takes.last

    @property
    def traces(self) -> list[Trace]:
        """The traces of all generations."""
        return self._takes.traces

    @property
    def _take(self) -> Take | None:
        return self._takes.now

    def __enter__(self) -> Self:
        if self._entered:
            raise RecordingError(ONCE)
        check_runs_plainly(self._pipe)
        self._modules: dict[str, nn.Module] = denoisers(self._pipe)
        self._family: Family = family(self._pipe)
        if self._family.text == "none" and self._request.words:
            raise BadInput(f"words={list(self._request.words)}: {self._family.name} cannot tell. {self._family.note}")
        with ExitStack() as stack:
            stack.enter_context(leases(self._modules.values(), self._wait))
            self._attach(stack)
            self._stack, self._entered = stack.pop_all(), True
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool | None:
        try:
            self._stack.close()
            if error is None or isinstance(error, Diverged):
                self._finish(error)
        finally:
            self._takes.close()
            self._asides.give_back()
            self._pipe = None  # what is returned holds no model
            self._modules, self._chosen, self._changed, self._leads = {}, (), (), Leads()
            self._depths, self._listener, self._asides = DepthReader({}, False), Listener(None), Asides()
        return isinstance(error, Estimated) or None  # what else went wrong comes through

    def _attach(self, stack: ExitStack) -> None:
        paths = named_attention(self._modules)
        wanted = self._request.chosen(paths)
        self._wanted = tuple(wanted)
        self._watched = {path for path, module in wanted.items() if not weightless(module)}
        if any(isinstance(item, AttentionIntervention) for item in self._request.interventions):
            self._edits = edit_waist(lambda call: self._asides.change(call), paths, stack)
        if any(isinstance(item, PromptIntervention) and item.sites for item in self._request.interventions):
            for path, module in paths.items():
                hook = here(partial(self._at_site, path))
                stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        self._changed = changed_modules(self._request.interventions, self._modules)
        for one in self._changed:
            stack.callback(one.module.register_forward_hook(here(partial(self._change, one))).remove)
        self._waist = Waist(self._read, lambda path: True)
        stack.enter_context(self._waist.on(wanted))
        for name, module in self._modules.items():
            before = module.register_forward_pre_hook(here(partial(self._begin_pass, name)), with_kwargs=True)
            stack.callback(before.remove)
            stack.callback(module.register_forward_hook(here(self._end_pass)).remove)
        self._chosen = choose(self._modules, self._request.modules)
        for one in self._chosen:
            stack.callback(one.module.register_forward_hook(here(partial(self._look, one))).remove)
        self._listener = Listener(self._pipe)
        self._depths = DepthReader(self._listener.encoders, self._request.text_states)
        leads = self._leads.hooks(self._pipe, lambda given: self._asides.lead(given, self._take))
        for handle in chain(self._listener.hooks(), self._depths.hooks(), leads):
            stack.callback(handle.remove)
        stack.callback(lambda: self._take and self._take.attention.joins.stop())
        self._stand_in(stack)

    def _stand_in(self, stack: ExitStack) -> None:
        """The methods that know what no hook sees: prompts, seed, branch, step and pictures."""
        pipe = self._pipe
        prior, decoder = getattr(pipe, "prior_pipe", None), getattr(pipe, "decoder_pipe", pipe)
        processors = [getattr(pipe, name, None) for name in ("image_processor", "video_processor")]
        methods = (
            *((part, "check_inputs", self._start) for part in parts_of(pipe)),
            *((part, "encode_prompt", self._encode) for part in parts_of(pipe)),
            *((part, "_encode_prompt", partial(self._encode, whole=False)) for part in (pipe, prior)),
            *((part, "prepare_latents", self._prepare) for part in parts_of(decoder)),
            *((guider, "forward", partial(self._guide, type(guider).__name__)) for guider in guiders_of(pipe)),
            *((module, "cache_context", self._name_branch) for module in self._modules.values()),
            (pipe.scheduler, "step", self._step),
            (pipe, "maybe_free_model_hooks", self._end),
            *((one, name, self._show) for one in processors for name in ("postprocess", "postprocess_video")),
        )
        for owner, name, wrapper in methods:
            if hasattr(owner, name):
                stack.enter_context(around(owner, name, wrapper))

    # What the pipeline does, in the order in which it does it.

    def _start(self, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The pipeline checks what it was given: a text begins anew, embeddings go on with what was encoded."""
        given = by_name(original, args, kwargs)
        if self._takes.over or texts(given.get("prompt")):
            self._finish()
        before = self._takes.encoded_before(given.get("prompt_embeds"))
        if before is not None:
            self._plan(self._ready().follow(before))
        return original(*args, **kwargs)

    def _end(self, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The pipeline's call is over: a pass after it is of another pipeline with the same denoiser."""
        self._takes.end()
        return original(*args, **kwargs)

    def _encode(self, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, whole: bool = True) -> Any:
        """Hear a prompt being encoded. The older kind may return the states of all branches in one tensor."""
        if not whole and self._listener.hears:  # a part of what encode_prompt does
            return original(*args, **kwargs)
        given, take, listener = told(original, args, kwargs), self._ready(), self._listener
        if self._request.words and not take.prompts and "negative" not in self._request.reads:
            said = (spoken(given, name) for name in ("prompt", "negative_prompt"))
            check_words(self._request.words, *said)  # bad words stop it before any work
        self._depths.take()  # whatever else ran an encoder in between
        result = listener.during(original, args, kwargs)
        take.encoded.hear(listener.given)
        heard, states = listener.take()
        take.encoded.note(given, state_groups(result) if whole or isinstance(result, list) else states, heard)
        take.depths.note(self._depths.take())
        if heard or not take.prompts:
            take.read_prompts(self._pipe)
        self._plan(take)
        return result

    def _plan(self, take: Take) -> None:
        """The texts are known: what interventions and inquiries need of them."""
        self._asides = Asides(self._request.interventions, self._request.inquiries, self._edits, self._changed)
        self._asides.plan(Scene(self._pipe, self._family, take.prompts, take.encoded.told, leads=self._leads.calls))

    def _ready(self) -> Take:
        """The take of the generation that is being prepared."""
        return self._takes.begin(self._family, self._wanted, self._chosen, self._asides)

    def _prepare(self, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        generator = by_name(original, args, kwargs).get("generator")
        first = generator[0] if isinstance(generator, list) else generator
        if self._take is not None and first is not None:
            self._take.seed = first.initial_seed()
        result = original(*args, **kwargs)
        self._latents = latents = result[0] if isinstance(result, tuple | list) else result
        if self._take is not None:
            self._take.pictures_asked = len(latents)
        return result

    def _name_branch(self, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = args[0] if args else kwargs.get("name")
        self._named = name if name in ("cond", "uncond") else None
        return original(*args, **kwargs)

    def _begin_pass(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._waist.begin_pass()
        if self._takes.over:
            self._finish()
        take = self._take
        if take is None and self._request.interventions and not self._takes.over:
            raise RecordingError(UNHEARD)
        if take is None:
            return None
        given = by_name(module.forward, args, kwargs)
        take.begin_pass(name, given, self._named)
        self._takes.budget.before(take, module, given, self._latents)
        if not take.step:
            self._asides.check_run(run_length(self._pipe))
        if take.current is None or self._latents is None or not self._asides.due(take.step):
            return None
        current, take.current = take.current, None  # what runs aside is not part of the record
        try:
            return (), self._asides.run(module, given, current, self._latents)
        finally:
            take.current = current
            self._waist.begin_pass()

    def _read(self, call: Call, lse: Tensor | None) -> None:
        take = self._take
        if take is not None and take.current is not None:
            take.attention.read(call, lse, take.current)

    def _at_site(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        current = self._take.current if self._take is not None else None
        return None if current is None else (args, self._asides.at_site(path, kwargs, current))

    def _change(self, one: Module, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        current = self._take.current if self._take is not None else None
        return None if current is None else one.change(output, current, len(self._pipe.scheduler.timesteps))

    def _look(self, one: Chosen, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        take = self._take
        if take is not None and take.current is not None:
            take.outputs.read(one, output, take.current, take.attention.kept)

    def _end_pass(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        take = self._take
        if take is not None and take.current is not None:
            take.attention.rest(take.current)
            check_cache(module, take.current, self._waist.ran, self._watched - self._waist.idle)
            take.attention.check(self._waist.ran & self._watched, take.current)
            self._waist.rest(take.attention.idle())
            self._takes.budget.after(take, module, self._latents)
            current, take.current = take.current, None  # nor is what runs after it
            output = self._asides.finish(module, current, output)
            take.current = current
            take.end_pass(output)
            take.current = None
        return output

    def _step(self, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._take is not None:
            given = by_name(original, args, kwargs)
            self._asides.stepping(given.get("sample"))
            self._take.stepped(given)
        result = original(*args, **kwargs)
        if self._take is not None:
            self._take.ended_step(result)
            self._latents = result[0] if isinstance(result, tuple) else result.prev_sample
        return result

    def _guide(self, guider: str, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = original(*args, **kwargs)
        if self._take is not None:
            whole = result if isinstance(result, Tensor) else result[0]
            self._take.combines(Combined(guider, predictions(original, args, kwargs), whole))
        return result

    def _show(self, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = original(*args, **kwargs)
        if self._take is not None:
            self._take.pictures = pictures_of(result)
        return result

    def _finish(self, stopped: Diverged | None = None) -> None:
        """What was recorded becomes a trace, if there was a step. `stopped`: the error that ended it too early."""
        self._takes.finish(self._asides, stopped)
