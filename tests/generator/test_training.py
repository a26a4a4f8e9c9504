"""The training loop: interrupted is as good as uninterrupted, a checkpoint is whole or absent, the rate is right."""

import copy
import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe.errors import DamagedFile
from probe.generator.parts import scheduler
from probe.generator.tokenizer import build
from probe.generator.train import __main__ as command
from probe.generator.train import autoencoder, diffusion, loop, optimiser, precision
from probe.generator.train.loop import Progress, Recipe, Trainer, finished, rate, smooth
from probe.generator.train.optimiser import MatrixOptimiser, orthogonal
from probe.generator.train.stages import STAGES, Plan, standardised
from probe.generator.world import World

RECIPE = Recipe(samples=48, batch=4, lr=0.02, warmup=3, decay=0.5, ema=0.9)


def tiny() -> nn.Module:
    """A kernel and a matrix for Muon, a norm and biases for AdamW."""
    torch.manual_seed(7)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.GroupNorm(2, 6), nn.SiLU(), nn.Flatten(), nn.Linear(6 * 16, 5))


def loss(module: nn.Module, start: int) -> dict[str, Tensor]:
    """Depends on the sample number, and on noise that the loss itself draws, as the stages' do."""
    rng = torch.Generator().manual_seed(start)
    x, y = torch.randn(4, 1, 6, 6, generator=rng) + torch.randn(4, 1, 6, 6), torch.randn(4, 5, generator=rng)
    return {"mse": F.mse_loss(module(x).float(), y), "size": 0.01 * module(x).float().pow(2).mean()}


def steps(trainer: Trainer, count: int) -> Trainer:
    for _ in range(count):
        trainer._step(loss)
    return trainer


def weights(module: nn.Module) -> Tensor:
    return torch.cat([value.flatten().float() for value in module.state_dict().values()])


# Resuming


@pytest.mark.parametrize("at", [1, 5, 11])
def test_resuming_gives_the_weights_of_an_uninterrupted_run(tmp_path: Path, at: int):
    straight = Trainer(tiny(), RECIPE, tmp_path / "straight")
    straight.fit(loss)
    steps(Trainer(tiny(), RECIPE, tmp_path / "broken"), at).save()
    torch.manual_seed(99)
    resumed = Trainer(nn.Sequential(*tiny()), RECIPE, tmp_path / "broken")
    assert resumed.resume()
    assert (resumed.progress.step, resumed.progress.samples) == (at, 4 * at)
    resumed.fit(loss)
    assert torch.equal(weights(straight.module), weights(resumed.module))
    assert torch.equal(weights(straight.average), weights(resumed.average))
    assert resumed.progress.loss == pytest.approx(straight.progress.loss)
    assert resumed.progress.step == 12


def test_a_gpu_takes_larger_batches_at_a_higher_rate(tmp_path: Path):
    here, there = (Plan(tmp_path, device).recipe("denoiser") for device in ("cpu", "cuda:0"))
    assert (there.batch, there.lr) == (4 * here.batch, 2 * here.lr)
    assert Plan(tmp_path, "cuda", batch=16).recipe("denoiser").batch == 16


def test_there_is_nothing_to_resume_in_an_empty_folder(tmp_path: Path):
    trainer = Trainer(tiny(), RECIPE, tmp_path / "none")
    before = weights(trainer.module)
    assert not trainer.resume()
    assert torch.equal(before, weights(trainer.module))


def test_a_finished_run_is_not_trained_on(tmp_path: Path):
    Trainer(tiny(), RECIPE, tmp_path / "part").fit(loss)
    again = Trainer(tiny(), RECIPE, tmp_path / "part")
    again.resume()
    before = weights(again.module)
    again.fit(loss)
    assert torch.equal(before, weights(again.module))


# Checkpoints


def crash(*_: object, **__: object) -> None:
    raise OSError("No space left on device")


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_save_that_breaks_off_keeps_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
):
    trainer = steps(Trainer(tiny(), RECIPE, tmp_path / "part"), 2)
    trainer.save()
    kept = weights(trainer.module)
    steps(trainer, 2)
    written, real = [], loop.save_file
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(
            loop, "save_file", lambda *given: crash() if len(written) == call - 1 else written.append(real(*given))
        )
        trainer.save()
    back = Trainer(tiny(), RECIPE, tmp_path / "part")
    assert back.resume()
    assert back.progress.step == 2
    assert torch.equal(kept, weights(back.module))
    trainer.save()  # and the next save is whole
    assert back.resume()
    assert back.progress.step == 4


@pytest.mark.parametrize("call", [1, 2])
def test_a_save_that_breaks_off_between_renames_keeps_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
):
    trainer = steps(Trainer(tiny(), RECIPE, tmp_path / "part"), 2)
    trainer.save()
    steps(trainer, 2)
    done, real = [], loop.os.replace
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(
            loop.os, "replace", lambda *given: crash() if len(done) == call - 1 else done.append(real(*given))
        )
        trainer.save()
    back = Trainer(tiny(), RECIPE, tmp_path / "part")
    assert back.resume()
    assert back.progress.step in (2, 4)


def test_a_checkpoint_is_tensors_and_text_only(tmp_path: Path):
    steps(Trainer(tiny(), RECIPE, tmp_path / "part"), 2).save()
    names = {path.name for path in (tmp_path / "part").iterdir()}
    assert names == {"model.safetensors", "average.safetensors", "optimiser.safetensors", "progress.json"}
    assert {path.name for path in tmp_path.iterdir()} == {"part"}
    kept = json.loads((tmp_path / "part" / "progress.json").read_text())
    assert (kept["step"], kept["samples"], kept["recipe"]["lr"]) == (2, 8, 0.02)


def test_finished_gives_the_average_frozen(tmp_path: Path):
    trainer = steps(Trainer(tiny(), RECIPE, tmp_path / "part"), 4)
    trainer.save()
    part = finished(tiny(), tmp_path / "part")
    assert torch.equal(weights(part), weights(trainer.average))
    assert not torch.equal(weights(part), weights(trainer.module))
    assert not part.training
    assert not any(p.requires_grad for p in part.parameters())


def test_finished_names_what_is_missing(tmp_path: Path):
    with pytest.raises(DamagedFile, match=r"holds no trained part .*train this stage first"):
        finished(tiny(), tmp_path / "nothing")


# Numbers


@pytest.mark.parametrize(
    ("step", "samples", "expected"),
    [
        (0, 0, 0.2),  # the first of ten steps of warm-up, of 2.0
        (4, 40, 1.0),
        (9, 90, 2.0),
        (50, 500, 2.0),
        (60, 600, 2.0),  # the last 0.4 begin here
        (70, 700, 1.0 + math.cos(math.pi / 4)),
        (80, 800, 1.0),
        (100, 1000, 0.0),
        (110, 1100, 0.0),
    ],
)
def test_rate(step: int, samples: int, expected: float):
    recipe = Recipe(samples=1000, batch=10, lr=2.0, warmup=10, decay=0.4)
    assert rate(recipe, Progress(step=step, samples=samples)) == pytest.approx(expected, abs=1e-12)


def test_the_average_follows_its_formula(tmp_path: Path):
    trainer = Trainer(tiny(), RECIPE, tmp_path)
    expected = weights(trainer.module)
    for step in range(1, 7):
        steps(trainer, 1)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = expected + (1 - decay) * (weights(trainer.module) - expected)
    assert torch.allclose(weights(trainer.average), expected, atol=1e-6)


def test_smooth_starts_at_the_first_value():
    assert smooth(math.nan, 3.0) == 3.0
    assert smooth(1.0, 2.0, 0.25) == 1.25


@pytest.mark.parametrize("shape", [(8, 27), (27, 8), (16, 16)])
def test_an_orthogonal_update_keeps_the_singular_vectors(shape: tuple[int, int]):
    """The quintic brings singular values between 0.5 and 1.5, all with the signs of their own vectors."""
    torch.manual_seed(0)
    G = torch.randn(shape)
    U, _, Vh = torch.linalg.svd(G, full_matrices=False)
    rest = U.T @ orthogonal(G, torch.float32) @ Vh.T
    assert (rest - torch.diag(rest.diagonal())).abs().max() < 1e-3
    assert rest.diagonal().min() > 0.3 and rest.diagonal().max() < 1.3


def test_half_precision_is_used_where_it_is_faster(monkeypatch: pytest.MonkeyPatch):
    seconds = {torch.bfloat16: 2.0, torch.float32: 1.0}
    monkeypatch.setattr(precision, "_seconds", seconds.__getitem__)
    precision.half.cache_clear()
    with precision.autocast("cpu"):
        assert precision.half("cpu") is None and not torch.is_autocast_enabled("cpu")
    precision.half.cache_clear()
    seconds[torch.bfloat16] = 0.5
    with precision.autocast("cpu"):
        assert torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    precision.half.cache_clear()
    assert precision.half("cuda") == torch.bfloat16 and precision.half("mps") is None


def test_kernels_get_muon_on_a_flattened_view(monkeypatch: pytest.MonkeyPatch):
    """The kernel must move as the matrix of its rows does under torch's own Muon, which works in bfloat16."""
    monkeypatch.setattr(optimiser, "half", lambda device: torch.bfloat16)
    torch.manual_seed(0)
    kernel = nn.Conv2d(3, 8, 3, bias=False)
    matrix = nn.Parameter(kernel.weight.detach().reshape(8, 27).clone())
    plain = torch.optim.Muon([matrix], lr=0.01, weight_decay=0.0, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    module = nn.Sequential(kernel, nn.GroupNorm(2, 8))
    ours = MatrixOptimiser(module, 0.0, (0.9, 0.99))
    for _ in range(3):
        gradient = torch.randn(8, 27)
        matrix.grad, kernel.weight.grad = gradient.clone(), gradient.reshape(8, 3, 3, 3).clone()
        plain.step()
        ours.step(0.01)
    assert torch.allclose(kernel.weight.reshape(8, 27), matrix, atol=6e-4)  # of steps of 0.01, rounded to 8 bits
    assert kernel.weight.grad is None


def test_training_lowers_the_loss(tmp_path: Path):
    trainer = Trainer(tiny(), Recipe(samples=10_000, batch=4, lr=0.02, warmup=1), tmp_path)
    before = loss(trainer.module, 0)["mse"].item()
    for _ in range(30):
        trainer._step(lambda module, _: loss(module, 0))
    assert loss(trainer.module, 0)["mse"].item() < 0.5 * before


# The stages


def test_crops_are_cut_from_the_scene():
    world = World(1)
    x = autoencoder.crops(world, 3, 5)
    assert x.shape == (5, 3, 64, 64)
    assert -1 <= x.min() < x.max() <= 1
    whole = autoencoder.to_signed(np.stack([np.asarray(scene.picture) for scene in world.scenes(5, 3)]))
    windows = whole.unfold(2, 64, 1).unfold(3, 64, 1)  # [b, rgb, top, left, y, x]
    for i in range(5):
        assert (windows[i] == x[i, :, None, None]).all(-1).all(-1).all(0).any()


def test_a_close_up_shows_its_thing_but_for_the_jitter_and_its_words_name_nothing_else():
    """The latents are numbered by cell, so a close-up tells where it was cut."""
    world, rng = World(3), random.Random(0)
    cells = torch.arange(32 * 32.0).view(1, 1, 32, 32).expand(60, 4, 32, 32)
    drawn = diffusion.Batches(world, cells, build()).draw(0, 16)
    assert [tuple(z.shape) for z, _ in drawn.values()] == [(4, 4, 32, 32), (12, 4, 16, 16)]
    for z in drawn["close"][0][:, 0].long():
        assert torch.equal(z, z[0, 0] + torch.arange(32 * 16).view(16, 32)[:, :16])
    for scene in world.scenes(60):
        for i, thing in enumerate(scene.things):
            if diffusion.fits(thing):
                y, x = diffusion.corner(thing, rng)
                assert 0 <= y <= 16 and 0 <= x <= 16
                assert y * 4 - 12 <= thing.y and thing.y + thing.side <= (y + 16) * 4 + 12
                said = {j for mention in world.caption_of(scene, i).mentions for j in mention.things}
                assert i in said and all(j == i or scene.things[j].wearer == i for j in said)


def test_a_share_of_one_leaves_no_close_ups():
    drawn = diffusion.Batches(World(3), torch.zeros(8, 4, 32, 32), build(), share=1).draw(0, 16)
    assert {name: tuple(z.shape) for name, (z, _) in drawn.items()} == {"whole": (16, 4, 32, 32)}


class Zero(nn.Module):
    """Predicts nothing, and remembers the times."""

    def forward(self, z: Tensor, t: Tensor, ids: Tensor):
        self.t = t
        return torch.zeros_like(z)


@pytest.mark.parametrize(("lean", "mean"), [(diffusion.EVEN, 1 / 2), (diffusion.NOISY, 2 / 3)])
def test_times_are_drawn_evenly_or_in_proportion_to_themselves(lean: float, mean: float):
    zero = Zero()
    torch.manual_seed(0)
    diffusion.loss(zero, torch.zeros(20_000, 1, 1, 1), torch.empty(0), scheduler(), lean)
    assert zero.t.min() >= 0 and zero.t.max() < 1000
    assert float(zero.t.double().mean()) / 1000 == pytest.approx(mean, abs=0.01)


def test_the_weights_of_the_denoiser_loss_are_capped():
    """A prediction of zero costs E[v^2] min(snr + 1, 5) / (snr + 1), summed here by hand over the drawn times."""
    zero, z = Zero(), torch.randn(4, 4, 8, 8)
    torch.manual_seed(5)
    value = float(diffusion.loss(zero, z, torch.empty(0), scheduler()))
    torch.manual_seed(5)
    t = (1000 * torch.rand(4)).long()
    noise = torch.randn_like(z)
    expected = 0.0
    for i in range(4):
        a = float(scheduler().alphas_cumprod[t[i]])
        v = math.sqrt(a) * noise[i] - math.sqrt(1 - a) * z[i]
        expected += min(1 / (1 - a), 5.0) * (1 - a) * float(v.pow(2).mean()) / 4
    assert torch.equal(zero.t, t)
    assert value == pytest.approx(expected, rel=1e-4)


def test_standardising_changes_the_latents_and_not_the_pictures():
    from probe.generator.parts import autoencoder as part

    torch.manual_seed(0)
    vae, x = part().eval(), torch.rand(4, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        before = vae.decode(vae.encode(x).latent_dist.mean).sample
        scaled = standardised(copy.deepcopy(vae), x)
        z = scaled.encode(x).latent_dist.mean
        after = scaled.decode(z).sample
    assert torch.allclose(z.mean((0, 2, 3)), torch.zeros(4), atol=1e-3)
    assert torch.allclose(z.std((0, 2, 3)), torch.ones(4), atol=1e-3)
    assert torch.allclose(before, after, atol=1e-3)


@pytest.mark.slow
def test_every_stage_runs_and_resumes(tmp_path: Path):
    """The whole training, a few steps of each stage: `python -m probe.generator.train FOLDER --smoke`."""
    command.main([str(tmp_path), "--smoke", "--device", "cpu"])
    marks = {stage: (tmp_path / stage / "progress.json").stat().st_mtime_ns for stage in STAGES}
    kept = {stage: json.loads((tmp_path / stage / "progress.json").read_text()) for stage in STAGES}
    assert all(row["samples"] == 8 and math.isfinite(row["loss"]) for row in kept.values())
    command.main(
        [str(tmp_path), "--smoke", "--device", "cpu", "--resume", "--stage", "autoencoder", "--stage", "judge"]
    )
    again = {stage: json.loads((tmp_path / stage / "progress.json").read_text()) for stage in STAGES}
    assert {stage: row["step"] for stage, row in again.items()} == dict.fromkeys(STAGES, 2)
    assert (tmp_path / "denoiser" / "progress.json").stat().st_mtime_ns == marks["denoiser"]
