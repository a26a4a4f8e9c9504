"""The one fork server of a test process: whoever starts it first decides what every child has imported already."""

import multiprocessing

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "tests.store.test_folder",
        "probe.store",
        "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
        "probe.study.drive",
    ]
)
