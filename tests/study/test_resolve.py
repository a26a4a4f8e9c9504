"""A study with nothing left open, and what is refused before any work."""

import inspect
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import probe.nurse
from probe import Study
from probe.concepts.steer import Steer
from probe.errors import BadInput
from probe.generator import weights
from probe.generator.names import GUIDANCE
from probe.study import methods
from probe.study.plan import plan
from probe.study.prompts import PromptRow
from probe.study.question import Method
from probe.study.resolve import folder_digest, resolve, with_subjects
from tests import pipelines
from tests.study import moody

Make = Callable[..., Study]
NURSE = {"method": "AttendAndExcite", "subjects": "$subjects"}


def test_everything_is_written_out(small: Make):
    study = small(prompts=["a cat and a red dog"], interventions=["plain", NURSE], scorers=["clip"], seeds=[0])
    resolved = resolve(study)
    [row] = resolved.rows
    assert (row.subjects, row.attributes) == (("cat", "dog"), (None, "red"))
    plain, nursed = resolved.interventions
    assert plain.settings == {}
    assert nursed.settings["subjects"] == "$subjects"
    assert nursed.settings["max_steps"] == probe.nurse.AttendAndExcite(subjects=("cat",)).max_steps
    assert set(nursed.settings) == set(probe.nurse.AttendAndExcite.model_fields)
    assert len(resolved.scorers[0].settings["templates"]) > 5
    assert (resolved.models[0].digest or "").startswith("blake2b:")


def test_a_resolved_study_stays_as_it_is(small: Make, tmp_path: Path):
    study = resolve(small(interventions=["plain", NURSE], explainers=["attention"], scorers=["time", "judge"]))
    again = Study(**study.model_dump(mode="json"))
    assert [job.key for job in plan(again)] == [job.key for job in plan(study)]
    assert [job.key for job in plan(resolve(again))] == [job.key for job in plan(study)]


def test_defaults_that_are_written_out_decide_nothing(small: Make):
    default = probe.nurse.AttendAndExcite(subjects=("cat",)).max_steps
    one, other = (resolve(small(interventions=[NURSE | more])) for more in ({}, {"max_steps": default}))
    assert {job.key for job in plan(one)} == {job.key for job in plan(other)}


def test_subjects_are_looked_for_only_where_they_are_needed(small: Make):
    assert resolve(small()).rows[0].subjects is None


def test_what_a_row_says_of_its_subjects_wins():
    row = PromptRow(prompt="a cat and a red dog", subjects=("dog",))
    assert with_subjects(row).subjects == ("dog",)
    assert with_subjects(row).attributes == (None,)


def test_every_intervention_of_the_room_can_be_named():
    found = methods.interventions()
    assert set(found) <= set(probe.nurse.__all__)
    assert found["AttendAndExcite"] is probe.nurse.AttendAndExcite
    assert all(issubclass(kind, BaseModel) for kind in found.values())


def test_explainers_and_scorers_can_be_named():
    assert "attention" in methods.explainers()
    assert set(methods.scorers()) >= {"judge", "clip", "time"}


def test_an_installed_scorer_can_be_named(monkeypatch: pytest.MonkeyPatch):
    point = metadata.EntryPoint("bright", "tests.study.moody:Brightness", "probe.scorers")
    monkeypatch.setattr(methods, "entry_points", lambda group: [point])
    assert isinstance(methods.build_scorer(Method(method="bright")), moody.Brightness)


def test_a_scorer_by_its_place_takes_settings():
    scorer = methods.build_scorer(Method.model_validate({"method": "tests.study.moody:Moody", "seconds": 0.5}))
    assert scorer.seconds == 0.5


def test_an_intervention_by_its_place_takes_settings():
    asked = Method.model_validate({"method": "probe.concepts.steer:Steer", "towards": "a dog", "strength": 0.5})
    assert methods.build_intervention(asked, asked.settings) == Steer(towards="a dog", strength=0.5)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no such method": ({"interventions": ["AttendAndExite"]}, "no intervention 'AttendAndExite'; did you mean 'Atte"),
    "no such setting": (
        {"interventions": [NURSE | {"max_stps": 3}]},
        "settings of 'AttendAndExcite' cannot be used:.*max_stps: there is no such field; did you mean 'max_steps'?",
    ),
    "bad setting": (
        {"interventions": [NURSE | {"max_steps": "many"}]},
        r"max_steps: Input should be a valid integer.*\(found 'many'\)",
    ),
    "plain with settings": (
        {"interventions": [{"method": "plain", "max_steps": 3}]},
        "'plain' is not an intervention, so it takes no settings; found max_steps",
    ),
    "no such place": ({"interventions": ["nowhere:X"]}, "the intervention 'nowhere:X' cannot be found.*install"),
    "no intervention": ({"interventions": ["os:system"]}, "'os:system' is not an intervention; it has to be a class"),
    "nothing to stand for": ({"interventions": [NURSE | {"subjects": "$things"}]}, r"'\$things' stands for nothing"),
    "no such explainer": ({"explainers": ["atention"]}, "no explainer 'atention'; did you mean 'attention'?"),
    "explainer's setting": ({"explainers": [{"method": "attention", "stps": 1}]}, "no setting 'stps'; did you mean 's"),
    "no such scorer": ({"scorers": ["clap"]}, "no scorer 'clap'; did you mean 'clip'?"),
    "no such module": ({"scorers": ["nowhere.at.all:X"]}, "the scorer 'nowhere.at.all:X' cannot be found"),
    "no such class": (
        {"scorers": ["tests.study.moody:None_"]},
        "cannot be found .* install its package, or name its folder",
    ),
    "no scorer": ({"scorers": ["os:system"]}, "'os:system' is not a scorer; it has to be a class that inherits from"),
    "taken column": ({"prompts": [{"prompt": "a", "seed": 3}]}, r"the columns \['seed'\], which the table needs"),
    "column of a scorer": (
        {"prompts": [{"prompt": "a", "time_of_day": 3}], "scorers": ["time"]},
        r"the columns \['time_of_day'\], which begin as those of .* do \(time_\): rename them",
    ),
    "two rows of one job": (
        {"prompts": [{"prompt": "a cat", "subset": one} for one in ("one", "two")]},
        "two rows of the prompt 'a cat' differ in subset only, which decides nothing of 'plain': they would be one job",
    ),
    "two rows of one job of one method": (
        {
            "prompts": [{"prompt": "a cat", "boxes": {"cat": [0, 0, 1, end]}} for end in (0.5, 1)],
            "interventions": [{"method": "BoxDiff", "boxes": "$boxes"}, "plain"],
        },
        "differ in boxes only, which decides nothing of 'plain'",
    ),
    "no such model": ({"models": ["nowhere"]}, "there is no folder 'nowhere', and this is not a hub id"),
    "a box outside": (
        {"interventions": [{"method": "BoxDiff", "boxes": {"cat": [0, 0, 2, 1]}}]},
        r"the settings of 'BoxDiff' cannot be used: the box of cat is \(0.0, 0.0, 2.0, 1.0\); give left, top, right",
    ),
    "a prompt's box outside": (
        {
            "prompts": [{"prompt": "a cat", "boxes": {"cat": box}} for box in ([0, 0, 1, 1], [0, 0, 2, 1])],
            "interventions": [{"method": "BoxDiff", "boxes": "$boxes"}],
        },
        "the settings of 'BoxDiff' cannot be used for the prompt 'a cat': the box of cat is",
    ),
    "no subjects": ({"interventions": ["AttendAndExcite"]}, "cannot be used: AttendAndExcite has no subjects; name th"),
    "one group": (
        {"interventions": [{"method": "Conform", "groups": [["cat"]]}]},
        "cannot be used: Conform tells groups of words apart, and groups=.*give two or more",
    ),
    "one group of the prompt": (
        {"prompts": ["a cat and a dog", "a red car"], "interventions": [{"method": "Conform", "groups": "$groups"}]},
        "cannot be used for the prompt 'a red car': Conform tells groups of words apart",
    ),
    "no such scheduler": (
        {"scheduler": "EulerDiscrete"},
        "there is no scheduler 'EulerDiscrete' for 'tiny'; take DDIMScheduler, .*EulerDiscreteScheduler",
    ),
    "unpinned": ({"models": ["who/knows"]}, "'who/knows' is not on this machine.*pin them: .*revision: COMMIT"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_before_any_work(case: str, small: Make):
    changes, message = REFUSED[case]
    study = small(**changes)
    with pytest.raises(BadInput, match=f"(?s){message}"):
        study.run()
    assert not study.path.exists()


def test_rows_of_one_prompt_are_apart_where_a_method_or_a_scorer_reads_what_differs(small: Make):
    boxes = [{"prompt": "a cat", "boxes": {"cat": [0, 0, 1, end]}} for end in (0.5, 1)]
    assert resolve(small(prompts=boxes, interventions=[{"method": "BoxDiff", "boxes": "$boxes"}]))
    targets = [{"prompt": "a cat", "target": each} for each in "xy"]
    assert resolve(small(prompts=targets, scorers=["tests.study.moody:Target"]))
    assert resolve(small(prompts=["a cat", {"prompt": "a cat"}]))


def test_a_pinned_hub_model_is_named_by_its_commit(small: Make):
    commit = "0123456789" * 4
    resolved = resolve(small(models=[{"source": "who/knows", "revision": commit}]))
    assert resolved.models[0].digest == f"who/knows@{commit}"


def test_menagerie_is_named_by_the_digest_of_its_weights(small: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weights, "revision", lambda *, control=False: "its own" if control else "plain")
    one, other = resolve(small(models=["menagerie", "menagerie-control"])).models
    assert (one.digest, other.digest) == ("menagerie:plain", "menagerie-control:its own")


@pytest.mark.parametrize("scorer", ["judge", "clip"])
def test_who_judges_another_model_decides_too(scorer: str, small: Make, model: str, monkeypatch: pytest.MonkeyPatch):
    """Menagerie's weights are not those of the model, but a judge among them that errs otherwise gives another row."""
    study = small(models=["menagerie", model], scorers=[scorer])
    before = resolve(study)
    assert [each.judge for each in before.models] == [None, weights.revision()]
    monkeypatch.setattr(weights, "revision", lambda *, control=False: "another")
    one, other = ({job.key for job in plan(each) if job.model.source == model} for each in (before, resolve(study)))
    assert one.isdisjoint(other)
    with pytest.raises(BadInput, match="Menagerie's weights, which score .*, the study says .*take the judge out"):
        resolve(study.model_copy(update={"models": before.models[1:]}))


def test_who_judges_is_no_part_of_other_keys(small: Make, model: str):
    bare = resolve(small(models=["menagerie", model], scorers=["time"]))
    assert [each.judge for each in bare.models] == [None, None]
    judged = resolve(small(models=["menagerie"], scorers=["judge"]))
    assert resolve(judged).models[0].judge is None


def test_a_scheduler_is_looked_for_in_every_model_that_is_here(small: Make, model: str):
    flow = {"scheduler": "FlowMatchEulerDiscreteScheduler"}
    away = {"source": "who/knows", "revision": "0" * 40}
    for name in ("menagerie", "menagerie-control", model):
        with pytest.raises(BadInput, match="there is no scheduler 'FlowMatchEulerDiscreteScheduler' for"):
            resolve(small(models=[away, name], **flow))
        assert resolve(small(models=[away, name], scheduler="EulerDiscreteScheduler")).scheduler
    assert resolve(small(models=[away], **flow)).scheduler  # told when it is loaded


def test_a_models_own_scheduler_fits_it(small: Make, model: str, tmp_path: Path):
    folder = shutil.copytree(model, tmp_path / "flow")
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("DDIMScheduler", "FlowMatchEulerDiscreteScheduler"))
    assert resolve(small(models=[str(folder)], scheduler="FlowMatchEulerDiscreteScheduler")).scheduler


def test_menagerie_is_drawn_at_its_own_guidance_where_none_is_named(small: Make, model: str):
    study = resolve(small(seeds=[0], models=["menagerie", {"source": "menagerie-control", "guidance": 3}, model]))
    assert [each.guidance for each in study.models] == [GUIDANCE, 3, None]
    again = Study(**study.model_dump(mode="json"))
    assert [job.guidance for job in plan(again)] == [GUIDANCE, 3, None]
    assert [job.key for job in plan(resolve(again))] == [job.key for job in plan(study)]


def test_menagerie_named_as_it_is_has_the_jobs_of_menagerie_left_alone(small: Make):
    """Checked against the pipeline itself, as the pictures are."""
    pipe = weights.load()
    steps = inspect.signature(type(pipe).__call__).parameters["num_inference_steps"].default
    side = pipe.unet.config["sample_size"] * pipe.vae_scale_factor
    own = {"steps": steps, "size": (side, side), "scheduler": type(pipe.scheduler).__name__, "negative": ""}
    one, other = (resolve(small(models=["menagerie"], **said)) for said in (dict.fromkeys(own), own))
    assert one.models[0].own.model_dump() == own
    assert {job.key for job in plan(one)} == {job.key for job in plan(other)}
    assert {job.steps for job in plan(one)} == {steps}


def test_a_models_own_scheduler_is_told_by_its_folder_only(small: Make, model: str):
    """A hub model's would be known once it was fetched, and the keys of its finished jobs would be others."""
    own, away = type(pipelines.pipeline("sd1").scheduler).__name__, {"source": "who/knows", "revision": "0" * 40}
    one, other = (resolve(small(models=[model, away], scheduler=name)) for name in (None, own))
    assert [each.own.scheduler for each in one.models] == [own, None]
    same = {job.key for job in plan(one)} & {job.key for job in plan(other)}
    assert same == {job.key for job in plan(one) if job.model.source == model}


def test_a_guidance_that_is_named_is_that_of_every_model(small: Make):
    study = resolve(small(seeds=[0], models=["menagerie"], guidance=[1, 7.5]))
    assert [job.guidance for job in plan(study)] == [1, 7.5]
    assert study.models[0].guidance is None


def test_a_folder_is_named_by_what_it_holds(tmp_path: Path):
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        (folder / "unet").mkdir(parents=True)
        (folder / "model_index.json").write_text("{}")
        (folder / "unet" / "w.safetensors").write_bytes(b"weights")
    assert folder_digest(one) == folder_digest(other)
    (other / ".cache").mkdir()
    (other / ".cache" / "x").write_text("nobody's business")
    assert folder_digest(one) == folder_digest(other)
    (other / "unet" / "w.safetensors").write_bytes(b"Weights")
    assert folder_digest(one) != folder_digest(other)


def test_weights_that_changed_are_refused(small: Make, model: str):
    with pytest.raises(BadInput, match=r"the weights of .* are blake2b:.*, the study says blake2b:00.*take the digest"):
        resolve(small(models=[{"source": model, "digest": "blake2b:00"}]))
