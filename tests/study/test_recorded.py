"""A recorded run that a study names: it edits as in a call, its digest is part of the key, its place is not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import probe
from probe import Study
from probe.errors import BadInput, DamagedFile
from probe.nurse import PromptToPrompt
from probe.study.call import call
from probe.study.nursing import nurse_for
from probe.study.plan import plan
from probe.study.question import RECORDED
from probe.study.resolve import resolve
from probe.study.results import place
from tests import pipelines

Make = Callable[..., Study]
SOURCE, EDITED = "a cat and a dog", "a bird and a dog"
PROJECTED = ("*.to_q:whole", "*.to_k:whole", "*.to_v:whole")


@pytest.fixture(scope="module")
def source(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that the edit starts from, as a study would make it, recorded. Look, and leave it as it is."""
    asked = {"prompts": [SOURCE], "seeds": [3], "models": [{"source": model, "label": "tiny"}]}
    study, pipe = Study(**asked, steps=2, size=(32, 48)), pipelines.load("sd1")
    with probe.record(pipe, words=[], keep="maps", modules=PROJECTED) as recording:
        pipe(**call(pipe, plan(study), study))
    return recording.trace.save(tmp_path_factory.mktemp("recorded") / "source")


def edit(folder: Any) -> dict[str, Any]:
    return {"method": "PromptToPrompt", "mode": "replace", RECORDED: folder}


def test_an_edit_of_a_recorded_run_is_a_job_like_another(small: Make, source: Path):
    study = small(prompts=[EDITED], seeds=[3], interventions=["plain", edit(str(source))])
    status = study.run()
    assert status.ok
    job = plan(resolve(study))[0]
    pipe = pipelines.load("sd1")
    wanted = PromptToPrompt(mode="replace", recorded=probe.open(source))
    with probe.record(pipe, words=[], interventions=[wanted]):
        expected = pipe(**call(pipe, [job], study))[0][0]
    keys = study.table().set_index("method")["key"]
    plain, edited = (np.asarray(Image.open(place(study.path, keys[name]) / "picture.png")) for name in keys.index)
    assert np.array_equal(edited, (expected * 255).round().astype(np.uint8))
    assert not np.array_equal(edited, plain)
    _, row = study.table().to_dict("records")
    assert json.loads(row["settings"])[RECORDED]["folder"] == str(source)
    assert study.run().done == 2  # nothing is done anew


def test_the_key_is_of_what_the_run_holds_and_not_of_where_it_lies(small: Make, source: Path, tmp_path: Path):
    moved = shutil.copytree(source, tmp_path / "elsewhere")
    keys = [plan(resolve(small(interventions=[edit(str(folder))])))[0].key for folder in (source, moved)]
    assert keys[0] == keys[1]
    trace = probe.open(source)
    trace.sel(step=[0]).save(tmp_path / "other")
    assert plan(resolve(small(interventions=[edit(str(tmp_path / "other"))])))[0].key != keys[0]
    again = resolve(small(interventions=[edit(str(source))]))
    assert plan(resolve(Study(**again.model_dump(mode="json"))))[0].key == keys[0]


def test_it_is_found_beside_the_study_and_named_on_the_command_line(source: Path):
    file = source.parent / "study.yaml"
    file.write_text(yaml.safe_dump({"prompts": [EDITED], "interventions": ["plain", edit("source")]}))
    assert Study.read(file).interventions[1].settings[RECORDED] == str(source)
    built = nurse_for("PromptToPrompt", EDITED, settings={"mode": "replace", RECORDED: str(source)})
    assert isinstance(built, PromptToPrompt) and built.recorded is not None
    assert (built.recorded.prompt, built.source) == (SOURCE, None)


def test_what_is_no_recorded_run(small: Make, source: Path):
    for given, error, message in (
        (str(source / "none"), DamagedFile, "none"),
        ("$source", BadInput, "is not a recorded run; give the folder of one trace"),
        ({"folder": str(source), "digest": "0" * 32}, BadInput, "the recorded run in .* is .*the study says 0000"),
    ):
        with pytest.raises(error, match=message):
            resolve(small(prompts=[{"prompt": EDITED, "source": str(source)}], interventions=[edit(given)]))
