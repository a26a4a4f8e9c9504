"""Bias studies end to end: two steps of a tiny Stable Diffusion, real classifiers with tiny or shipped weights."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import CLIPConfig, CLIPModel, ViTConfig, ViTForImageClassification, ViTImageProcessor

import probe
from probe.bias import Confusion, ImageClassifier, MenagerieJudge, ZeroShot
from probe.bias.error import measure_rendered
from probe.errors import BadInput, BadModel
from probe.generator import weights
from probe.generator.tokenizer import build
from probe.generator.world import World
from probe.study import Study
from tests import pipelines

FEW = {"seeds": "0-2", "steps": 2, "size": (32, 32)}
PERFECT = {"gender": Confusion(("man", "woman"), ((50, 0), (0, 50)), "by hand")}
CLASSES = {"gender": {"man": ("male",), "woman": ("female", "lady")}}


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny image classifier of three classes."""
    folder = tmp_path_factory.mktemp("vit")
    names = {0: "male", 1: "female", 2: "lady"}
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = ViTConfig(image_size=32, patch_size=16, id2label=names, label2id={n: i for i, n in names.items()}, **size)
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


def person(gender: str, tone: str = "light", kind: str = "doctor") -> Image.Image:
    """A rendered scene."""
    return World().arrange([kind], 7, gender=gender, tone=tone).picture


def small(tmp_path: Path, **changes: Any) -> Study:
    """A study of two groups on a tiny model, with Menagerie's judge named on purpose."""
    base = {"models": [{"source": str(pipelines.folder("sd1")), "label": "tiny"}], "folder": str(tmp_path / "bias")}
    given = {"classifier": MenagerieJudge(attributes=("gender",)), **FEW, **base, **changes}
    return probe.bias.study(["doctor", "astronaut"], **given)


def test_a_bias_study_is_a_study(tmp_path: Path):
    made = probe.bias.study(
        ["doctor", "astronaut"], ["a photo of {group}", "the {group}"], seeds="0-1", guidance=[1, 5]
    )
    assert isinstance(made, Study)
    assert [row.prompt for row in made.rows][:3] == ["a photo of a doctor", "a photo of an astronaut", "the doctor"]
    assert [(row.columns["group"], row.columns["template"]) for row in made.rows][3] == ("astronaut", "the {group}")
    again = Study.read(_written(tmp_path / "study.json", made))
    assert again.rows == made.rows and again.scorers == made.scorers


def _written(path: Path, study: Study) -> Path:
    path.write_text(json.dumps(study.model_dump(mode="json")))
    return path


def test_it_runs_goes_on_and_is_audited(tmp_path: Path):
    made = small(tmp_path)
    assert made.run().ok
    before = {path: path.stat().st_mtime_ns for path in made.path.rglob("manifest.json")}
    more = small(tmp_path, seeds="0-3")
    assert more.run().ok
    assert {path: path.stat().st_mtime_ns for path in before} == before  # nothing was done again
    assert len(list(more.path.rglob("manifest.json"))) == 8
    audit = probe.bias.audit(more.path, errors=PERFECT)
    assert list(audit.shares["group"].unique()) == ["doctor", "astronaut"]
    assert set(audit.shares["pictures"]) == {4} and audit.shares["reference"].isna().all()
    assert audit.classifier == MenagerieJudge().name
    audit.save(more.path)
    assert more.run().ok and probe.bias.open(more.path).errors == PERFECT
    assert probe.bias.audit(more).errors == PERFECT  # as kept beside the study


def test_references_of_ones_own_are_kept(tmp_path: Path):
    doctor = {"group": "doctor", "reference": {"gender": {"man": 0.6, "woman": 0.4}}}
    made = probe.bias.study([doctor], classifier=MenagerieJudge(), folder=str(tmp_path / "own"))
    from probe.bias.question import reference_of

    assert reference_of(made) == {("menagerie", "doctor"): doctor["reference"]}
    plain = probe.bias.study(["doctor", "nurse"])
    assert reference_of(plain)["menagerie", "doctor"] == probe.bias.planted("doctor")
    assert reference_of(plain)["menagerie", "nurse"] == {}


def test_too_few_pictures_for_the_interval_are_said_before_any_work(tmp_path: Path):
    with pytest.raises(BadInput, match=r"3 pictures of a group are too few for an interval of \+- 0.05.*take 381"):
        small(tmp_path, within=0.05)
    assert small(tmp_path, seeds="0-380", within=0.05)


def test_one_scorer_or_intervention_is_a_list_of_one():
    made = probe.bias.study(["doctor"], scorers="clip", interventions={"method": "plain", "label": "as it is"})
    assert [scorer.name for scorer in made.scorers] == ["perceived", "clip"]
    assert [method.name for method in made.interventions] == ["as it is"]


def test_the_judge_is_for_menagerie_only(tmp_path: Path):
    with pytest.raises(BadInput, match="Menagerie's judge knows no pictures of 'tiny'; name another"):
        small(tmp_path, classifier=None)


def test_a_study_without_classifier_is_no_bias_study(tmp_path: Path):
    made = Study(prompts=["a cat"], models=[str(pipelines.folder("sd1"))], folder=str(tmp_path / "s"), **FEW)
    made.run()
    with pytest.raises(BadInput, match="has no scorer called 'perceived'"):
        probe.bias.audit(made)


# Classifiers


def test_the_judge_reads_rendered_people():
    judge = MenagerieJudge()
    assert judge.read(person("woman", "dark")) == {"gender": "woman", "tone": "dark"}
    assert judge.read(World().arrange(["cat"], 3).picture) == {"gender": None, "tone": None}
    assert judge.weights == f"menagerie:{weights.revision()}"


def test_menageries_clip_reads_what_its_phrases_name():
    phrases = {"kind": {"cat": "a cat", "doctor": "a doctor"}}
    reader = ZeroShot(phrases=phrases)
    assert reader.read(World().arrange(["cat"], 3).picture) == {"kind": "cat"}
    assert reader.read(person("man")) == {"kind": "doctor"}


def test_any_clip_of_a_folder_reads(tmp_path: Path):
    tokenizer = build()
    text = {"vocab_size": len(tokenizer), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"eos_token_id": tokenizer.eos_token_id, "max_position_embeddings": tokenizer.model_max_length}
    sight = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config=text, vision_config=sight, projection_dim=8)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    from transformers import CLIPImageProcessor

    CLIPImageProcessor(size={"shortest_edge": 32}).save_pretrained(tmp_path)
    reader = ZeroShot(source=str(tmp_path))
    assert reader.read(person("man"))["gender"] in ("man", "woman")
    assert reader.weights.startswith(f"{tmp_path.name}:")


def test_an_image_classifier_adds_up_its_classes(vit: str):
    import torch

    reader = ImageClassifier(source=vit, classes=CLASSES)
    model, processor = ViTForImageClassification.from_pretrained(vit), ViTImageProcessor.from_pretrained(vit)
    with torch.no_grad():
        chances = model(**processor(images=person("man"), return_tensors="pt")).logits[0].softmax(-1)
    expected = "man" if chances[0] > chances[1] + chances[2] else "woman"
    assert reader.read(person("man")) == {"gender": expected}


def test_a_classifier_without_the_asked_label_says_so(vit: str):
    with pytest.raises(BadInput, match="has no label 'old'; it has female, lady, male"):
        ImageClassifier(source=vit, classes={"age": {"old": ("old",), "young": ("male",)}})
    with pytest.raises(BadInput, match="reads gender, tone of people, not \\['age'\\]"):
        MenagerieJudge(attributes=("age",))
    with pytest.raises(BadInput, match="'gender' needs two labels at least"):
        ZeroShot(phrases={"gender": {"man": "a man"}})
    with pytest.raises(BadInput, match="has no label 'other' of gender; it has man, woman"):
        probe.bias.measure(MenagerieJudge(), [(person("man"), {"gender": "other"})])


def test_other_weights_under_the_same_name_are_refused(vit: str):
    with pytest.raises(BadInput, match="restore them, or take `weights` out"):
        ImageClassifier(source=vit, classes=CLASSES, weights="vit:0000")
    with pytest.raises(BadModel, match="there is no folder 'nowhere'"):
        ZeroShot(source="nowhere")
    with pytest.raises(BadModel, match="holds no CLIPModel"):
        ZeroShot(source=str(Path(vit).parent)).read(person("man"))


# Their error


def test_the_error_is_counted():
    judge = MenagerieJudge(attributes=("gender",))
    pairs = [(person(g), {"gender": g}) for g in ("man", "woman")] * 2
    pairs += [(World().arrange(["cat"], 3).picture, {"gender": "man"}), (person("man"), {"gender": "woman"})]
    found = probe.bias.measure(judge, pairs, source="scenes")["gender"]
    assert found.counts == ((2, 0), (1, 2)) and found.unread == (1, 0) and found.source == "scenes"


def test_rendered_scenes_have_every_label_as_often():
    pairs = list(probe.bias.rendered(1))
    assert len(pairs) == 10 * 2 * 6
    assert sum(truth["gender"] == "man" for _, truth in pairs) == 60


def test_of_foreign_classifiers_the_error_is_not_known_here(vit: str):
    assert measure_rendered(ImageClassifier(source=vit, classes=CLASSES)) == {}
    assert measure_rendered(ZeroShot(phrases={"mood": {"happy": "happy", "sad": "sad"}})) == {}


def test_labelled_pictures_of_ones_own(tmp_path: Path):
    person("woman").save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("file,gender\na.png,woman\n")
    ((picture, truth),) = probe.bias.labelled(tmp_path / "labels.csv")
    assert truth == {"gender": "woman"} and picture.size == (128, 128)
    (tmp_path / "labels.csv").write_text("file,gender\nb.png,woman\n")
    with pytest.raises(BadInput, match="the picture 'b.png' cannot be read"):
        list(probe.bias.labelled(tmp_path / "labels.csv"))
