"""`probe world`: a sheet of scenes, as Menagerie's training saw them."""

from io import BytesIO
from pathlib import Path

from jsonargparse import Namespace

from probe import show
from probe.cli import say
from probe.generator.world import World
from probe.study.results import replace_file


def run(options: Namespace) -> int:
    """Draw `count` scenes with their captions into one picture."""
    world = World(options.seed)
    scenes = list(world.scenes(options.count))
    sheet = show.contact_sheet([scene.picture for scene in scenes], [world.caption(scene).text for scene in scenes])
    target = Path(options.sheet).expanduser()
    target.parent.mkdir(parents=True, exist_ok=True)
    drawn = BytesIO()
    sheet.save(drawn, format="PNG")
    replace_file(target, drawn.getvalue())
    say.result(target)
    return 0
