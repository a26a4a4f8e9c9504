"""Generate & trace: a real (tiny) pipeline, in the one worker, for visitors who never mix."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

import probe
from dashboards.shared import traces
from dashboards.shared.generation import Request, Shelf, check, generate, worker
from dashboards.shared.worker import Cancelled, Job
from probe.errors import BadPrompt, NotAPipeline
from tests import pipelines
from tests.dashboards.pages import alts, markdown, page, plain, texts, viewed
from tests.fingerprint import hooks

SECONDS = 120
BUTTON = "FormSubmitter:ask-Generate and trace"


@pytest.fixture(scope="module")
def model() -> str:
    """The folder of a tiny random Stable Diffusion."""
    return str(pipelines.folder("sd1"))


def press(app: AppTest, button: str = BUTTON, **fields: Any) -> AppTest:
    """Fill in the form and press its button."""
    for key, value in fields.items():
        kinds = (app.text_area, app.text_input, app.number_input, app.selectbox)
        next(each for kind in kinds for each in kind if each.key == key).set_value(value)
    return app.button(key=button).click().run()


def job_of(app: AppTest) -> Job:
    found = worker().job(app.session_state["job"])
    assert found is not None
    return found


def ended(app: AppTest) -> AppTest:
    """The page after its job has ended."""
    assert job_of(app).wait(SECONDS)
    return app.run()


def test_before_the_first_picture_it_says_what_to_do():
    app = page("generate")
    assert not app.exception
    assert texts(app.info) == ["Press the button above: the picture and the map of every word appear here."]
    assert [field.label for field in app.number_input] == ["Seed", "Steps", "Guidance"]
    assert app.expander[0].label == "Another model"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"prompt": "  \n "}, "the prompt is empty. Say what the picture should show"),
        ({"source": "nowhere/at/all"}, "there is no folder 'nowhere/at/all' on this machine"),
        ({"source": "owner/name"}, "Give the full path of a folder"),
    ],
)
def test_what_cannot_be_run_is_explained_and_nothing_is_lost(fields: dict[str, str], why: str):
    app = press(page("generate"), **({"prompt": "a dog", "seed": 7} | fields))
    assert not app.exception
    assert len(app.error) == 1
    assert why in plain(app)
    assert app.number_input(key="seed").value == 7
    assert "job" not in app.session_state


def test_a_word_that_is_not_in_the_prompt_is_named(model: str):
    app = ended(press(page("generate"), prompt="a cat and a dog", words="cat, owl", source=model, steps=2))
    assert texts(app.error) == ["This could not be drawn. Your settings are still above."]
    assert "'owl'" in plain(app)
    assert "cat" in plain(app)
    assert app.text_input(key="words").value == "cat, owl"
    assert traces.names() == []


def test_a_folder_that_is_no_pipeline_is_named(tmp_path: Path):
    app = ended(press(page("generate"), source=str(tmp_path)))
    assert len(app.error) == 1
    assert str(tmp_path) in plain(app)
    assert str(tmp_path) not in markdown(app)


def test_from_the_prompt_to_the_explorer(model: str):
    app = press(
        page("generate"),
        prompt="a cat and a red balloon",
        source=model,
        steps=20,
        guidance=4.0,
        seed=3,
        words="cat, red balloon",
    )
    assert not app.exception
    assert ended(app).query_params["job"] == app.session_state["job"]
    assert texts(app.success) == ["Done, and saved on this machine."]
    (name,) = traces.names()
    assert app.get("page_link")[-1].proto.query_string == f"trace={name}"
    assert [word["label"] for word in viewed(app)["words"]] == ["cat", "red balloon"]
    assert "The picture for “a cat and a red balloon”, and the maps of cat, red balloon over it" in alts(app)
    assert any("How hard the prompt pulls, over 20 steps" in told for told in alts(app))
    run = probe.open(traces.find(name)).run
    assert (run.seed, run.steps, run.guidance_scale) == (3, 20, 4.0)
    assert not page("explorer", trace=name).exception
    again = page("generate", job=app.session_state["job"])
    assert texts(again.success) == ["Done, and saved on this machine."]


def under_way(job: Job) -> Job:
    """The job, once it draws."""
    deadline = time.monotonic() + SECONDS
    while job.step < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (job.state, job.total) == ("running", 500)
    return job


def test_progress_is_shown_and_the_button_cancels(model: str):
    app = press(page("generate"), source=model, steps=500)
    job = under_way(job_of(app))
    app.run()
    assert app.button(key=BUTTON).disabled
    assert "of 500" in app.get("progress")[0].proto.text
    app.button(key="cancel").click().run()
    assert job.state == "cancelled"
    assert texts(app.info) == ["Cancelled. Nothing was saved; your settings are still above."]
    assert app.number_input(key="steps").value == 500
    assert traces.names() == []


def test_cancelling_frees_the_worker_within_two_steps(model: str):
    job = under_way(worker().submit(Request("a cat", steps=500, source=model)))
    worker().cancel(job)
    step = job.step
    assert job.wait(SECONDS)
    assert job.step - step <= 2
    assert worker().submit(Request("a dog", steps=1, source=model)).wait(SECONDS)


def test_a_cancelled_pipeline_is_given_back_as_it_was(model: str):
    shelf = Shelf()
    request = Request("a cat and a dog", steps=6, source=model)
    before = probe.open(traces.find(generate(Job(request), shelf)))
    pipe = shelf.get(model)
    count = hooks(pipe.unet)
    stopped = Job(request)
    seen: list[int] = []

    def stop_at_the_third(step: int, total: int | None) -> None:
        seen.append(step)
        if step == 3:
            stopped.stop()

    stopped.advance = stop_at_the_third
    with pytest.raises(Cancelled):
        generate(stopped, shelf)
    assert seen == [1, 2, 3]
    assert hooks(pipe.unet) == count
    assert torch.is_grad_enabled()  # what the pipeline had switched off for itself
    after = probe.open(traces.find(generate(Job(request), shelf)))
    assert before.tree.identical(after.tree)


def test_visitors_at_the_same_time_get_what_they_would_get_alone(model: str):
    requests = [Request(prompt, seed, steps=2, source=model) for prompt in ("a cat", "a red dog") for seed in (1, 2)]
    shelf = Shelf()
    alone = {request: picture(generate(Job(request), shelf)) for request in requests}
    wrong: list[Request] = []

    def visitor(own: list[Request]) -> None:
        for request in own:
            job = worker().submit(request)
            if not (job.wait(SECONDS) and job.state == "done" and np.array_equal(picture(job.result), alone[request])):
                wrong.append(request)

    threads = [threading.Thread(target=visitor, args=(requests[i:] + requests[:i],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert wrong == []


def picture(name: str) -> np.ndarray:
    return np.asarray(probe.open(traces.find(name)).pictures[0])


def test_watching_for_a_stop_does_not_change_the_picture(model: str):
    pipe = pipelines.load("sd1")
    plain_one = pipe("a cat", num_inference_steps=3, generator=torch.Generator("cpu").manual_seed(5)).images[0]
    made = picture(generate(Job(Request("a cat", 5, steps=3, source=model)), Shelf()))
    assert np.array_equal(np.asarray(plain_one), made)


def test_requests_are_checked_before_anything_is_loaded():
    with pytest.raises(BadPrompt, match="the prompt is empty"):
        check(Request("\t"))
    with pytest.raises(NotAPipeline, match="there is no folder"):
        check(Request("a cat", source="some/where"))


def test_hostile_prompts_are_never_markdown(model: str):
    prompt = "![p](https://example.org/p.png) <img src=x onerror=alert(1)> :red[a] $x$ `c`"
    app = ended(press(page("generate"), prompt=prompt, source=model, steps=1))
    assert texts(app.success) == ["Done, and saved on this machine."]
    assert "![p](" not in markdown(app)
    assert "<img" not in markdown(app)
    assert "".join(piece["text"] for piece in viewed(app)["pieces"]) == prompt


@pytest.mark.filterwarnings("ignore::probe.errors.ProbeWarning")
def test_words_that_fell_off_are_named(model: str):
    app = ended(press(page("generate"), prompt="a cat " + "and a dog " * 40 + "and a zebra", source=model, steps=1))
    assert texts(app.warning) == ["The prompt is too long for the model. These words were cut off:"]
    assert "zebra" in plain(app)


def test_a_trace_is_recorded_for_the_methods_that_were_chosen(model: str):
    app = page("generate")
    app.multiselect(key="also").set_value(["leave_one_out"])
    app = ended(press(app, prompt="a cat and a red balloon", source=model, steps=2))
    assert not app.exception and not app.error
    assert job_of(app).request.methods == ("leave_one_out",)
    trace = probe.open(traces.find(job_of(app).result))
    assert float(probe.leave_one_out(trace, "cat").values.max()) > 0
