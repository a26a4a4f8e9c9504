"""What each site is for: tables of what ablating a word there, or patching another prompt in, did to the prediction.

They show effects of one site at one step. A site without effect may be one that others stand in for, and an effect does
not say how later layers use it.
"""

import xarray as xr

from probe.errors import BadInput
from probe.explain.nodes import Found
from probe.readings import Steps
from probe.trace import Trace

EFFECT = Found("roles/ablation", "effect", "ablation", "probe.Ablation()")
RECOVERED = Found("roles/patching", "recovered", "patching", "probe.Patching(source='...')")


def profile(trace: Trace, *, steps: Steps = None, image: int = 0) -> xr.DataArray:
    """(site, word) the share of each word's effects that a site has, mean over steps; a word's shares sum to 1.

    The coordinates `group` and `cells` say where in the network a site is, and on how many cells.
    Raises NotRecorded (record with `explain=probe.Ablation()`), NoMatch.
    """
    effect = EFFECT.at(trace, steps, image).mean("step")
    return _placed(
        trace, (effect / effect.sum("site")).rename("profile").assign_attrs(units="share of a word's effects")
    )


def carried(trace: Trace, *, steps: Steps = None, image: int = 0) -> xr.DataArray:
    """(site) the share of the way to the other prompt's prediction that a site carries alone, mean over steps.

    Shares need not sum to 1: sites can say the same, and later ones depend on earlier ones. The coordinates `group` and
    `cells` say where a site is. Raises NotRecorded (record with `explain=probe.Patching(source=...)`), NoMatch.
    """
    recovered = RECOVERED.at(trace, steps, image).mean("step")
    other = RECOVERED.dataset(trace).attrs["source"]
    return _placed(trace, recovered.rename("carried").assign_attrs(units="share of the difference", source=other))


def by_group(table: xr.DataArray) -> xr.DataArray:
    """The sum of a profile, or of what sites carry, over the sites of each part of the network. Raises BadInput."""
    if "group" not in table.coords:
        raise BadInput("there are no groups of sites in this table; give it what `profile` or `carried` returned")
    return table.groupby("group").sum()


def _placed(trace: Trace, table: xr.DataArray) -> xr.DataArray:
    """With the part of the network and the number of cells of each site, where the trace knows them."""
    known = {site.path: site for site in trace.sites}
    paths = [str(path) for path in table["site"].values]
    found = [known.get(path) for path in paths]
    groups = [next((part for part in path.split(".") if "block" in part), path) for path in paths]
    cells = [0 if site is None else site.grid[0] * site.grid[1] for site in found]
    return table.assign_coords(group=("site", groups), cells=("site", cells))
