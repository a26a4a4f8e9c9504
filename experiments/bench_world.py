"""How fast is the world drawn? Prints scenes a second on one core, for each thing that training asks of a scene.

Processor time, so that whatever else runs does not count. Training data is made on the fly, so this must stay well
above what the models can learn from (some hundred a second on a laptop); the bar is 1,500 pictures a second.
"""

import time
from collections.abc import Callable

from probe.generator.world import Scene, World

SCENES, BAR = 4000, 1500
WORLD = World(1)

TASKS: dict[str, Callable[[Scene], object]] = {
    "scene only": lambda scene: scene.things,
    "picture": lambda scene: scene.picture,
    "picture and caption": lambda scene: (scene.picture, WORLD.caption(scene)),
    "picture, caption and masks": lambda scene: (scene.picture, WORLD.caption(scene), scene.labels),
}


def rate(task: Callable[[Scene], object], start: int) -> float:
    """Scenes a second, over scenes that were not drawn before."""
    began = time.process_time()
    for scene in WORLD.scenes(SCENES, start):
        task(scene)
    return SCENES / (time.process_time() - began)


def main() -> None:
    rate(TASKS["picture, caption and masks"], 1_000_000)  # fills the cache of sprites, as training does at once
    for i, (name, task) in enumerate(TASKS.items()):
        value = rate(task, i * SCENES)
        print(f"{name:28} {value:8,.0f} scenes/s" + (f"  (bar {BAR:,})" if name == "picture" else ""))


if __name__ == "__main__":
    main()
