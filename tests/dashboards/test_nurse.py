"""Diagnose & nurse: a real (tiny) pipeline, drawn twice, with a verdict on every subject."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import probe
from dashboards.shared import traces
from dashboards.shared.generation import Request, Shelf, worker
from dashboards.shared.nursing import PLAIN, TOLD, Nursing, methods, nurse
from dashboards.shared.worker import Cancelled, Job
from probe.study.methods import interventions
from tests import pipelines
from tests.dashboards.pages import alts, markdown, page, plain, texts
from tests.dashboards.test_generate import SECONDS, hooks, press

BUTTON = "FormSubmitter:nurse-Draw plain and nursed"
PROMPT = "a cat and a red balloon"


@pytest.fixture(scope="module")
def model() -> str:
    return str(pipelines.folder("sd1"))


def ask(app: AppTest, **fields: Any) -> AppTest:
    return press(app, BUTTON, **fields)


def ended(app: AppTest) -> AppTest:
    """The page after its job has ended."""
    job = worker().job(app.session_state["nursing"])
    assert job is not None and job.wait(SECONDS)
    return app.run()


def test_before_the_first_picture_it_says_what_to_do():
    app = page("nurse")
    assert not app.exception
    assert texts(app.info) == ["Press the button above: both pictures and what became of every subject appear here."]
    assert app.selectbox(key="method").value == "AttendAndExcite"
    assert set(methods()) == set(interventions())
    assert list(methods()).index("SynGen") < list(methods()).index("BoxDiff")  # those that need no settings come first


def test_from_the_prompt_to_verdicts_and_back_by_the_address(model: str):
    app = ended(ask(page("nurse"), prompt=PROMPT, source=model, steps=3, seed=4))
    assert not app.exception
    assert texts(app.success) == ["Done, and both records are saved on this machine."]
    assert [head for head in texts(app.header) if head in ("Plain", "AttendAndExcite")] == ["Plain", "AttendAndExcite"]
    assert plain(app).count("cat: ") == plain(app).count("balloon: ") == 2
    assert "By uncalibrated rules" in plain(app) or "By a calibration" in plain(app)
    told = alts(app)
    assert any(each.startswith("The picture before and after, with the maps of cat, balloon") for each in told)
    assert any(each.startswith("The loss, at every iteration: ") for each in told)
    assert f"Plain: the picture for “{PROMPT}”" in told
    nursed, before = (probe.open(traces.find(name)) for name in saved())
    assert (nursed.run.seed, before.run.seed) == (4, 4)
    again = page("nurse", job=app.session_state["nursing"])
    assert texts(again.success) == texts(app.success)


def saved() -> tuple[str, str]:
    """The ids of the nursed and of the plain trace."""
    nursed = next(name for name in traces.names() if PLAIN in probe.open(traces.find(name)).extra)
    return nursed, probe.open(traces.find(nursed)).extra[PLAIN]


def test_the_plain_run_is_the_pipelines_own(model: str):
    shelf = Shelf()
    name = nurse(Job(Nursing(Request(PROMPT, 3, steps=2, source=model), "AttendAndExcite")), shelf)
    trace = probe.open(traces.find(name))
    before = probe.open(traces.find(trace.extra[PLAIN]))
    alone = pipelines.run(
        pipelines.pipeline("sd1"), "sd1", seed=3, prompt=PROMPT, num_inference_steps=2, output_type="pil",
        height=None, width=None, guidance_scale=7.5,
    )  # fmt: skip
    assert np.array_equal(np.asarray(before.pictures[0]), alone[0])
    assert trace.extra[TOLD]["subjects"] == ["cat", "balloon"]


def test_a_method_that_needs_settings_takes_them(model: str):
    wanted = "boxes={cat: [0, 0, 0.5, 1]}; max_steps=1; thresholds={}"
    name = nurse(Job(Nursing(Request(PROMPT, 3, steps=1, source=model), "BoxDiff", ("cat",), wanted)), Shelf())
    [told] = probe.open(traces.find(name)).extra["interventions"]
    assert (told["boxes"], told["max_steps"]) == ({"cat": [0, 0, 0.5, 1]}, 1)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"prompt": "  "}, "the prompt is empty"),
        ({"source": "no/where"}, "there is no folder 'no/where'"),
        ({"method": "BoxDiff"}, "boxes: this is needed"),
        ({"settings": "strngth=1"}, "strngth: there is no such field"),
    ],
)
def test_what_cannot_be_run_is_explained(fields: dict[str, str], why: str):
    app = ask(page("nurse"), **({"prompt": "a dog and a cat"} | fields))
    assert not app.exception
    assert why in plain(app)
    assert "nursing" not in app.session_state


def test_a_subject_that_is_not_in_the_prompt_is_named(model: str):
    app = ended(ask(page("nurse"), prompt=PROMPT, subjects="cat, owl", source=model, steps=1))
    assert texts(app.error) == ["This could not be drawn. Your settings are still above."]
    assert "'owl'" in plain(app)
    assert traces.names() == []


def test_progress_is_shown_and_the_button_cancels(model: str):
    app = ask(page("nurse"), prompt=PROMPT, source=model, steps=400)
    job = worker().job(app.session_state["nursing"])
    assert job is not None
    deadline = time.monotonic() + SECONDS
    while job.step < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    app.run()
    assert "Drawing plain: step" in app.get("progress")[0].proto.text
    app.button(key="cancel").click().run()
    assert job.wait(SECONDS)
    assert texts(app.info) == ["Cancelled. Nothing was saved; your settings are still above."]
    assert traces.names() == []


def test_cancelled_while_nursing_the_pipeline_is_given_back(model: str):
    shelf = Shelf()
    pipe = shelf.get(model)
    count = hooks(pipe.unet)
    stopped = Job(Nursing(Request(PROMPT, steps=3, source=model), "AttendAndExcite"))
    advance = stopped.advance

    def stop_in_the_second_run(step: int, total: int | None) -> None:
        if stopped.stage.startswith("nursing"):
            stopped.stop()
        advance(step, total)

    stopped.advance = stop_in_the_second_run
    with pytest.raises(Cancelled):
        nurse(stopped, shelf)
    assert hooks(pipe.unet) == count
    assert all(parameter.requires_grad for parameter in pipe.unet.parameters())
    assert traces.names() == []


def test_hostile_prompts_are_never_markdown(model: str):
    prompt = "![p](https://example.org/p.png) <img src=x onerror=alert(1)> a cat and a :red[dog]"
    app = ended(ask(page("nurse"), prompt=prompt, subjects="cat, dog", source=model, steps=1))
    assert texts(app.success) == ["Done, and both records are saved on this machine."]
    assert "![p](" not in markdown(app)
    assert "<img" not in markdown(app)


def test_a_job_of_another_page_is_not_shown_here(model: str, tmp_path: Path):
    job = worker().submit(Request("a cat", steps=1, source=model))
    assert job.wait(SECONDS)
    assert texts(page("nurse", job=job.id).info)[0].startswith("Press the button above")
    assert not page("nurse", job=job.id).exception
