"""Attention as an explanation: where the denoiser looked while it read a word.

It shows where information of the word could flow, not that the word caused what is there; change the word, or the
attention, to find out. Reference: Tang et al., "What the DAAM" (2023), whose map is the sum over sites and steps.
"""

import xarray as xr

from probe.axes import Branch
from probe.heatmap import Heatmap
from probe.readings import UNITS, Choice, Heads, Sites, Steps, chosen_sites, word_maps
from probe.trace import Trace


def attention(
    trace: Trace,
    word: str,
    *,
    sites: Sites = None,
    steps: Steps = None,
    image: int = 0,
    branch: Branch = "cond",
    frame: int | None = None,
    heads: Heads = None,
) -> Heatmap:
    """Mean over sites, heads and steps of the share of its attention (0..1) that each cell gives to a word.

    `sites` is a pattern (`"up_blocks"`, `"*attn2"`), a sequence of Sites or patterns, or all; `steps` a number, a
    slice, a sequence of numbers, or all. Grids are resized to the finest chosen one; every site counts alike.
    `heads` are numbers of heads that were kept apart (`probe.record(pipe, heads="all")`), of the sites that have them.
    Of a film, `frame` is one frame of its latents, which stands for several pictures; left out, the mean over all.
    Raises NoSuchWord, NoMatch or NotRecorded, each naming what there is.
    """
    maps = word_maps(trace, [word], Choice(sites, steps, image, branch, frame, heads))
    field = maps.isel(word=0, drop=True).mean("step", keep_attrs=True)
    provenance = {
        "prompt": trace.run.prompt_of(image),
        "model": trace.run.model,
        "seed": trace.run.seed,
        "sites": [site.path for site in chosen_sites(trace, sites)],
        "sites_by_grid": maps.attrs["sites"],
        "steps": maps["step"].values.tolist(),
        "image": image,
        "branch": branch,
        **({} if frame is None else {"frame": frame}),
        **({} if heads is None else {"heads": heads}),
    }
    return Heatmap(field, trace.word(word), "attention", UNITS, provenance)


def curve(
    trace: Trace,
    word: str,
    *,
    sites: Sites = None,
    steps: Steps = None,
    image: int = 0,
    branch: Branch = "cond",
    frame: int | None = None,
) -> xr.DataArray:
    """(step, statistic) how much attention a word gets at each step: its mean over the cells, and its maximum.

    Arguments, units and errors are those of `attention`; the maximum is taken of the mean over sites.
    """
    maps = word_maps(trace, [word], Choice(sites, steps, image, branch, frame)).isel(word=0, drop=True)
    both = [maps.mean(("y", "x")), maps.max(("y", "x"))]
    joined = xr.concat(both, xr.Variable("statistic", ["mean", "max"])).transpose("step", "statistic")
    return joined.rename(trace.word(word)).assign_attrs(units=UNITS)
