"""The command, from the outside: what it writes, what it says, and that nothing is lost or left when it fails."""

import os
import pty
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

import probe
from probe.cli import main, output, say
from probe.cli.drawing import arguments_of
from probe.cli.parser import build, settings
from tests import pipelines

PROMPT = "a cat and a red balloon"
STEPS = 3


@pytest.fixture(scope="module")
def model() -> str:
    return str(pipelines.folder("sd1"))


@pytest.fixture(scope="module")
def result(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one `probe trace` wrote. Look, and leave it as it is."""
    folder = tmp_path_factory.mktemp("result") / "deep" / "cat"
    asked = ["--model", model, "--steps", str(STEPS), "--seed", "7", "--animate"]
    assert main(["trace", PROMPT, *asked, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def copy(result: Path, tmp_path: Path) -> Path:
    """A copy of a result that a test may damage."""
    return shutil.copytree(result, tmp_path / "copy")


def listing(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# What it makes.


def test_trace_writes_picture_record_figures_and_report(result: Path):
    assert sorted(p.name for p in result.iterdir()) == [
        "figures",
        "picture.png",
        "report.html",
        "settings.yaml",
        "trace",
    ]
    names = {"overlays", "strip-1-cat", "strip-2-balloon", "guidance"}
    moving = {"steps-1-cat.gif", "steps-2-balloon.gif"}
    still = {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert {p.name for p in (result / "figures").iterdir()} == still | moving
    for name in moving:
        with Image.open(result / "figures" / name) as read:
            assert read.n_frames == STEPS
    assert [p.name for p in result.parent.iterdir()] == ["cat"]  # no hidden sibling stays
    assert PROMPT in (result / "report.html").read_text(encoding="utf-8")


def test_the_trace_holds_what_was_asked_for(result: Path):
    trace = probe.open(result / "trace")
    assert (trace.prompt, trace.run.seed, trace.run.steps) == (PROMPT, 7, STEPS)
    assert probe.verify(result / "trace").ok


def test_trace_records_for_the_explainers_that_are_named(model: str, tmp_path: Path, capsys):
    asked = ["--model", model, "--steps", "1", "--out", str(tmp_path / "a")]
    assert main(["trace", PROMPT, *asked, "--explain", "relevancy, rollout", "--concepts", "zebra"]) == 0
    for more in (["--method", "relevancy"], ["--method", "rollout"], ["--method", "relevancy", "--region", "0,0,1,1"]):
        assert main(["explain", str(tmp_path / "a"), *more]) == 0
    assert main(["explain", str(tmp_path / "a"), "--method", "concept_attention", "--words", "zebra"]) == 0
    assert "zebra: strongest" in capsys.readouterr().out
    assert main(["trace", PROMPT, "--model", model, "--explain", "magic", "--out", str(tmp_path / "b")]) != 0
    assert "there is no explainer or table 'magic'; there are: attention" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_trace_records_tables_and_draws_a_lens(model: str, tmp_path: Path, capsys):
    asked = ["trace", PROMPT, "--model", model, "--steps", "2"]
    more = ["--explain", "ablation,overlap", "--patch", "a dog", "--at", "1", "--lens", "0,2"]
    assert main([*asked, *more, "--out", str(tmp_path / "a")]) == 0
    assert (tmp_path / "a" / "figures" / "lens.png").is_file()
    page = (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    assert all(part in page for part in ("Which layers carry each word", "difference to another prompt", "ends early"))
    assert main(["explain", str(tmp_path / "a"), "--table", "patching"]) == 0
    roles = probe.open(tmp_path / "a" / "trace").tree["roles"]
    assert [node["step"].values.tolist() for node in roles.children.values()] == [[1], [1]]
    capsys.readouterr()
    for wrong, said in (
        (["--lens", "few"], "give numbers of layers"),
        (["--explain", "patching"], "give one: --patch"),
        (["--at", "1"], "add --explain"),
        (["--explain", "ablation", "--at", "late"], "give steps with commas"),
        (["--explain", "ablation", "--at", "7"], "7"),
    ):
        assert main([*asked, *wrong, "--out", str(tmp_path / "b")]) != 0
        assert said in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_the_picture_is_the_pipelines_own(result: Path):
    arguments = {"prompt": PROMPT, "num_inference_steps": STEPS, "output_type": "pil"}
    pipe = pipelines.pipeline("sd1")
    plain = pipelines.run(pipe, "sd1", seed=7, **arguments, height=None, width=None, guidance_scale=7.5)
    assert np.array_equal(np.asarray(Image.open(result / "picture.png")), plain[0])


def test_the_settings_can_be_run_again(result: Path):
    again = build().parse_args(["trace", "--config", str(result / "settings.yaml")]).trace
    assert (again.prompt, again.seed, again.steps, again.out) == (PROMPT, 7, STEPS, None)


@pytest.mark.parametrize("prompt", ["5", "true", "null", "a: [cat]", "é 猫 😀\n#x", "~"])
def test_any_text_survives_the_settings(prompt: str, tmp_path: Path):
    options = build().parse_args(["trace", prompt, "--guidance", "3.5", "--out", "x"]).trace
    (tmp_path / "s.yaml").write_text(settings(options), encoding="utf-8")
    again = build().parse_args(["trace", "--config", str(tmp_path / "s.yaml")]).trace
    assert (again.prompt, again.guidance) == (prompt, 3.5)


@pytest.mark.parametrize(("source", "scale"), [(None, 5.0), ("menagerie-control", 5.0), ("other", None)])
def test_menagerie_is_guided_at_the_scale_of_its_card_by_whatever_name(source: str | None, scale: float | None):
    pipe = pipelines.pipeline("sd1")
    named = [] if source is None else ["--model", source]
    assert arguments_of(pipe, build().parse_args(["trace", PROMPT, *named]).trace).get("guidance_scale") == scale
    options = build().parse_args(["trace", PROMPT, *named, "--guidance", "2"]).trace
    assert arguments_of(pipe, options)["guidance_scale"] == 2.0


def test_words_negative_and_size_reach_the_pipeline(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    chosen = ["--words", "balloon, cat", "--negative", "a dog", "--width", "32", "--height", "48", "--guidance", "2"]
    assert main(["trace", PROMPT, "--model", model, "--steps", "2", "--out", str(tmp_path / "t"), *chosen]) == 0
    trace = probe.open(tmp_path / "t" / "trace")
    assert trace.labels == ("balloon", "cat")
    assert (trace.run.width, trace.run.height, trace.run.guidance_scale) == (32, 48, 2.0)
    assert trace.run.negative_prompts == ("a dog",)
    assert str(tmp_path / "t" / "report.html") in capsys.readouterr().out


@pytest.mark.parametrize(("more", "method"), [([], "noise"), (["--invert"], "invert")])
def test_a_picture_that_exists_is_looked_into(more: list[str], method: str, model: str, tmp_path: Path):
    Image.new("RGB", (48, 32), "orange").save(tmp_path / "photo.png")
    given = ["--image", str(tmp_path / "photo.png"), "--steps", "2", "--negative", "a dog", *more]
    assert main(["trace", PROMPT, "--model", model, "--out", str(tmp_path / "t"), *given]) == 0
    trace = probe.open(tmp_path / "t" / "trace")
    assert trace.extra["image"]["method"] == method and (trace.run.width, trace.run.height) == (48, 32)
    assert "difference_norm" in trace.node("guidance") or method == "invert"  # which goes without guidance


def test_a_dry_run_says_what_a_trace_would_hold_and_writes_nothing(model: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = ["trace", PROMPT, "--model", model, "--steps", "2", "--dry-run"]
    assert main(asked) == 0
    assert re.search(r"would hold about [\d.]+ KiB \(attention .*nothing was drawn", capsys.readouterr().out)
    assert main([*asked, "--image", "x.png"]) == 2
    assert "--image gives one: leave one out" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


def test_cut_goes_on_without_the_words_that_fell_off(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["trace", LONG, "--cut", "--model", model, "--steps", "2", "--out", str(tmp_path / "t")]) == 0
    assert re.search(r"note: the end of .* was truncated: text_encoder reads 77 tokens", capsys.readouterr().err)


def test_without_out_a_free_folder_is_named_after_the_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert output.choose(None, "A cat, and a “red” balloon!") == tmp_path / "out" / "a-cat-and-a-red-balloon"
    (tmp_path / "out" / "a-cat-and-a-red-balloon").mkdir(parents=True)
    assert output.choose(None, "a cat and a red balloon") == tmp_path / "out" / "a-cat-and-a-red-balloon-2"
    assert output.slug("../../etc") == "etc"
    assert output.slug("😀") == "untitled"


# What it refuses: (what is typed, what it says, exit code). Nothing may be left behind.

LONG = "a cat " + "and " * 90 + "a red balloon"
REFUSED = {
    "empty prompt": (["  "], "the prompt is empty", 2),
    "too long": (
        [LONG],
        r"too long: .*reads 77 tokens, and not all of: .*balloon.* and \d+ more\. Shorten it.*--cut",
        2,
    ),
    "no such word": ([PROMPT, "--words", "cat,dog"], "'dog' is not in the prompt; its words are: a, cat, and", 2),
    "no such model": ([PROMPT, "--model", "nowhere"], "no folder 'nowhere'.*leave it out for Menagerie", 2),
    "unknown on the hub": ([PROMPT, "--model", "who/knows"], "'who/knows' could not be loaded.*Check the name", 2),
    "no pipeline": ([PROMPT, "--model", "{tmp}"], "holds no model_index.json", 2),
    "wrong size": ([PROMPT, "--height", "100"], "height 100 is not a multiple of 8. Take 96 or 104", 2),
    "no picture": ([PROMPT, "--image", "{tmp}/file"], "file cannot be read as an image.*PNG or JPEG", 2),
    "a size for a picture": ([PROMPT, "--image", "x.png", "--width", "64"], "has its own size: leave out --width", 2),
    "a lens of a picture": ([PROMPT, "--lens", "all", "--image", "x.png"], "--lens generates images.*leave one", 2),
    "no device": ([PROMPT, "--device", "magic"], "device 'magic'.*cpu, cuda", 2),
    "no steps": ([PROMPT, "--steps", "0"], "error: --steps takes a whole number from 1 on, not 0$", 2),
    "too many steps": ([PROMPT, "--steps", "2000"], "--steps 2000: this model knows 1000 levels of noise; take few", 2),
    "too many levels": ([PROMPT, "--steps", "2000", "--image", "x.png", "--invert"], "2000: this model knows 1000", 2),
    "a seed too large": (
        [PROMPT, "--seed", "9" * 23],
        r"error: --seed takes a whole number from 0 to \d{20}, not 9",
        2,
    ),
    "negative size": ([PROMPT, "--width", "-8"], "error: --width takes a whole number from 1 on, not -8$", 2),
    "no number": ([PROMPT, "--seed", "many"], "error: --seed takes a whole number from 0 on, not many$", 2),
    "no prompt": ([], "error: PROMPT is missing.*in quotes", 2),
    "unknown option": ([PROMPT, "--stps", "3"], "--stps", 2),
    "no quotes": ([PROMPT, "on", "grass"], "'on grass' is one word too many.*in quotes", 2),
    "a negative scale": ([PROMPT, "--guidance", "-1"], "error: --guidance takes a number from 0 on, not -1$", 2),
    "a file in the way": ([PROMPT, "--out", "{tmp}/file/x"], "cannot write .*Not a directory.*another folder", 1),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_clearly(case: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    typed, message, code = REFUSED[case]
    (tmp_path / "file").write_text("mine")
    defaults = [] if "--model" in typed else ["--model", model]
    defaults += [] if "--out" in typed else ["--out", str(tmp_path / "new" / "result")]
    assert leave(["trace", *(word.replace("{tmp}", str(tmp_path)) for word in typed), *defaults]) == code
    said = capsys.readouterr()
    assert re.search(message, said.err, re.DOTALL)
    assert "Traceback" not in said.err
    assert said.out == ""
    assert listing(tmp_path) == {"file": b"mine"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def leave(arguments: list[str]) -> int:
    """The exit code, also where the parser leaves by itself."""
    try:
        return main(arguments)
    except SystemExit as left:
        return int(left.code or 0)


def test_pickled_weights_are_refused(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = shutil.copytree(model, tmp_path / "model")
    for weights in (folder / "unet").glob("*.safetensors"):
        weights.rename(weights.with_name("diffusion_pytorch_model.bin"))
    assert main(["trace", PROMPT, "--model", str(folder), "--out", str(tmp_path / "x")]) == 2
    assert re.search("pickled weights only.*safe_serialization=True", capsys.readouterr().err)
    assert not (tmp_path / "x").exists()


def test_an_existing_folder_is_refused_and_kept(copy: Path, model: str, capsys: pytest.CaptureFixture[str]):
    before = listing(copy)
    assert main(["trace", PROMPT, "--model", model, "--out", str(copy)]) == 1
    assert re.search("exists already: choose another --out, or replace it with --overwrite", capsys.readouterr().err)
    assert listing(copy) == before


def test_overwrite_replaces_a_result_when_the_new_one_is_whole(copy: Path, model: str):
    before = listing(copy)
    arguments = ["trace", PROMPT, "--model", model, "--steps", "2", "--out", str(copy), "--overwrite"]
    assert main([*arguments, "--words", "dog"]) == 2
    assert listing(copy) == before
    assert main(arguments) == 0
    assert probe.open(copy / "trace").run.steps == 2
    assert [p.name for p in copy.parent.iterdir()] == ["copy"]


def test_overwrite_never_replaces_what_is_somebody_elses(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("years of work")
    assert main(["trace", PROMPT, "--model", model, "--out", str(tmp_path / "thesis"), "--overwrite"]) == 1
    assert "was not made by `probe`" in capsys.readouterr().err
    assert listing(tmp_path) == {"thesis/chapter": b"years of work"}


# What happens to it.


def typed(tmp_path: Path, model: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "probe.cli", "trace", PROMPT, "--model", model, "--out", str(tmp_path / "r"), *more]


def test_ctrl_c_at_the_terminal_leaves_nothing(model: str, tmp_path: Path):
    """A real terminal, a real Ctrl-C in the middle of the run."""
    keyboard, screen = pty.openpty()
    command = typed(tmp_path, model, "--steps", "900")
    process = subprocess.Popen(
        command,
        stdin=screen,
        stdout=screen,
        stderr=screen,
        start_new_session=True,
        preexec_fn=lambda: own_terminal(screen),
    )
    os.close(screen)
    seen = read_until(keyboard, re.compile(rb"step.*\b([1-9]|\d\d)/900"))
    os.write(keyboard, b"\x03")
    seen += read_until(keyboard, re.compile(rb"interrupted; nothing was left behind"))
    assert process.wait(timeout=60) == 130
    os.close(keyboard)
    assert b"Traceback" not in seen
    assert list(tmp_path.iterdir()) == []


def own_terminal(screen: int) -> None:
    """A terminal of its own, and Ctrl-C as it is there: a suite that runs in the background has it ignored."""
    import fcntl
    import termios

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(screen, termios.TIOCSCTTY, 0)


def read_until(keyboard: int, wanted: re.Pattern[bytes], seconds: float = 120) -> bytes:
    """What the screen shows until something is seen."""
    seen, deadline = b"", time.monotonic() + seconds
    while not wanted.search(seen):
        ready, _, _ = select.select([keyboard], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"waited for {wanted.pattern!r}, saw {seen[-2000:]!r}"
        try:
            seen += os.read(keyboard, 65536)
        except OSError as closed:
            raise AssertionError(f"the terminal closed before {wanted.pattern!r}, after {seen[-2000:]!r}") from closed
    return seen


def test_a_disk_that_takes_no_more_leaves_nothing(model: str, tmp_path: Path):
    """The system refuses to write more than 4 kB into a file, as a full disk does."""
    done = subprocess.run(
        typed(tmp_path, model, "--steps", "2"),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert done.returncode == 1
    assert re.search(r"error: cannot write .*nothing was left there", done.stderr)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path):
    """A disk of 128 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("no right to mount a small disk here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_leaves_nothing(model: str, small_disk: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["trace", PROMPT, "--model", model, "--steps", "2", "--out", str(small_disk / "deep" / "r")]) == 1
    assert re.search("cannot write .*No space left on device.*free some space", capsys.readouterr().err)
    assert list(small_disk.iterdir()) == []


# What it reads.


def test_open_says_what_there_is(result: Path, capsys: pytest.CaptureFixture[str]):
    for path in (result, result / "trace"):
        assert main(["open", str(path)]) == 0
        said = capsys.readouterr().out
        assert f"Trace of {PROMPT!r}, {STEPS} steps" in said
        assert f"report: {result / 'report.html'}" in said


def test_open_tells_how_to_make_a_missing_report(copy: Path, capsys: pytest.CaptureFixture[str]):
    (copy / "report.html").unlink()
    assert main(["open", str(copy)]) == 0
    assert "to write one: probe.show.report" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["open", "verify"])
def test_what_is_not_there_is_named(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("x")
    assert main([command, str(tmp_path / "nowhere")]) == 2
    assert main([command, str(tmp_path / "file")]) == 2
    said = capsys.readouterr().err
    assert "nowhere does not exist" in said
    assert "file is a file" in said


def test_verify_passes_what_is_whole(result: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["verify", str(result)]) == 0
    assert "as written" in capsys.readouterr().out


def largest(folder: Path) -> Path:
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def test_verify_finds_one_flipped_bit(copy: Path, capsys: pytest.CaptureFixture[str]):
    path = largest(copy / "trace" / "arrays.zarr")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert main(["verify", str(copy)]) == 1
    assert re.search(rf"DAMAGED.*{path.name} does not match", capsys.readouterr().out, re.DOTALL)


@pytest.mark.parametrize("harm", ["manifest gone", "manifest cut", "file gone"])
def test_a_damaged_trace_is_not_opened(harm: str, copy: Path, capsys: pytest.CaptureFixture[str]):
    manifest = copy / "trace" / "manifest.json"
    if harm == "manifest cut":
        manifest.write_text(manifest.read_text()[:100])
    else:
        (manifest if harm == "manifest gone" else largest(copy / "trace" / "arrays.zarr")).unlink()
    assert main(["open", str(copy)]) == 1
    assert main(["verify", str(copy)]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err


def test_a_foreign_prompt_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]):
    say.result("a \x1b[2Jcat\r\x07 é 猫")
    assert capsys.readouterr().out == "a \\x1b[2Jcat\\r\\x07 é 猫\n"


# The rest.


def test_doctor_reports(capsys: pytest.CaptureFixture[str]):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert f"probe {probe.__version__}" in said
    assert "random weights of the real classes" in said
    assert "verdict     all well" in said


def test_doctor_tries_a_model(model: str, capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", model, "--device", "cpu"]) == 0
    assert "picture   identical to the bit" in capsys.readouterr().out


def test_world_draws_the_same_sheet_twice(tmp_path: Path):
    for name in ("one.png", "deep/two.png"):
        assert main(["world", "--sheet", str(tmp_path / name), "--seed", "3", "--count", "6"]) == 0
    one, two = (np.asarray(Image.open(tmp_path / name)) for name in ("one.png", "deep/two.png"))
    assert np.array_equal(one, two)
    assert one.std() > 10


def test_world_says_what_it_could_not_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("x")
    assert main(["world", "--sheet", str(tmp_path / "file" / "sheet.png"), "--count", "1"]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def free_port() -> int:
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        return probing.getsockname()[1]


def test_the_dashboard_serves_this_machine_only(result: Path, tmp_path: Path):
    port = free_port()
    command = [sys.executable, "-m", "probe.cli", "dashboard", "--port", str(port), "--folder", str(result.parent)]
    with (tmp_path / "said").open("w") as said:
        process = psutil.Popen(command, stdout=said, stderr=said, start_new_session=True)
    try:
        assert wait_for(f"http://127.0.0.1:{port}/_stcore/health") == b"ok"
        family = [process, *process.children(recursive=True)]
        sockets = [
            c.laddr for member in family for c in member.net_connections("tcp") if c.status == psutil.CONN_LISTEN
        ]
        assert sockets == [("127.0.0.1", port)]
    finally:
        os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 0
    text = (tmp_path / "said").read_text()
    assert f"the dashboard of {result.parent} is at http://127.0.0.1:{port}" in text
    assert "Traceback" not in text


def wait_for(url: str, seconds: float = 90) -> bytes:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.read()
        except OSError:
            assert time.monotonic() < deadline, f"{url} did not answer"
            time.sleep(0.3)


def test_a_missing_streamlit_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("probe.cli.dashboard.find_spec", lambda name: None)
    assert main(["dashboard"]) == 1
    assert "pip install 'diffusion-probe[dashboard]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], *([c, "--help"] for c in ("trace", "open", "doctor", "world"))]
)
def test_help_is_there(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert leave(words) == 0
    assert "probe" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["trce", "x"], ["verify"], ["world"], ["dashboard", "--port", "0"]])
def test_wrong_usage_is_code_2(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert leave(words) == 2
    assert "error:" in capsys.readouterr().err


def test_the_module_runs_as_the_command_does():
    done = subprocess.run([sys.executable, "-m", "probe.cli", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(probe.__version__)
