// The page: a file or the microphone goes through the model, and what comes out is shown.
"use strict";

const ROWS = 5; // classes that are shown
const SHOWN_SECONDS = 10; // of the microphone
const MOST_HEARD = 100; // lines
const $ = (id) => document.getElementById(id);
const page = { model: null, microphone: null, windows: [], turn: 0 };

/** Make a name visible text, as specenhance does: what would break a line or turn its direction is written as a code. */
function visible(name) {
  const short = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
  const code = (character) => {
    const digits = character.codePointAt(0).toString(16);
    const [letter, length] = digits.length <= 2 ? ["x", 2] : digits.length <= 4 ? ["u", 4] : ["U", 8];
    return short[character] ?? `\\${letter}${digits.padStart(length, "0")}`;
  };
  return name.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) => ("\u200c\u200d".includes(character) ? character : code(character)));
}

const nameOf = (label) => visible(page.model.about.classes[label]);
const percent = (probability) => `${(100 * probability).toFixed(1)}%`;
const seconds = (time) => `${time.toFixed(1)} s`;

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

function element(name, text, more = {}) {
  return Object.assign(document.createElement(name), { textContent: text, ...more });
}

/** Begin something new. Gives a number that a later beginning makes old. */
async function begin() {
  page.turn += 1;
  const { turn } = page;
  await stopMicrophone();
  return turn;
}

/** Empty the page for a sound of which it shows `shown` seconds. */
function clear(shown) {
  page.windows = [];
  page.shown = shown; // seconds in the strip
  page.strip.clear(shown, page.model.about.hop_seconds);
  page.events = new Events(page.model.about.thresholds);
  $("rows").replaceChildren(element("li", "no sound yet", { className: "none" }));
  $("heard").replaceChildren(element("li", "nothing yet", { className: "none" }));
  $("mask-range").textContent = "";
  showAxis(0, shown);
}

function showAxis(from, to) {
  $("from").textContent = seconds(from);
  $("to").textContent = seconds(to);
}

/** Show a window, and what it ends. */
function take(part) {
  part.middle = (part.start + part.end) / 2;
  page.windows.push(part);
  page.strip.draw(part);
  page.events.after(part);
  page.events.sure().forEach(showEvent);
  part.spectrogram = part.maskTime = part.maskFreq = null; // it is drawn
  const from = page.strip.from * page.strip.perColumn;
  page.windows = page.windows.filter((one) => one.end > from);
  showAxis(from, from + page.shown);
  if (page.model.hasMask) $("mask-range").textContent = `${page.strip.range[0].toFixed(3)} (clear) to ${page.strip.range[1].toFixed(3)} (green)`;
}

/** Show an event, or what has become of it. */
function showEvent(event) {
  if (!event.line) {
    const list = $("heard");
    list.querySelector(".none")?.remove();
    event.line = document.createElement("li");
    event.line.append(element("time", ""), element("bdi", nameOf(event.label)), element("span", ""));
    list.prepend(event.line); // the latest first
    while (list.children.length > MOST_HEARD) list.lastChild.remove();
    $("said").textContent = nameOf(event.label); // a screen reader says it once
  }
  const [time, , probability] = event.line.children;
  time.textContent = `${event.start.toFixed(1)} to ${seconds(event.end)}`;
  probability.textContent = ` ${percent(event.probability)}`;
}

/** Show the likeliest classes: those of `probabilities`, with charts of the windows in the strip. */
function showRows(probabilities, order = ranked(probabilities)) {
  const list = $("rows");
  const from = page.strip.from * page.strip.perColumn;
  const ink = getComputedStyle(document.documentElement).getPropertyValue("--accent");
  const labels = order.slice(0, ROWS);
  if (list.children.length !== labels.length || list.querySelector(".none")) {
    list.replaceChildren(...labels.map(() => {
      const row = document.createElement("li");
      row.append(document.createElement("bdi"), element("canvas", "", { ariaHidden: "true" }), element("span", "", { className: "percent" }));
      return row;
    }));
  }
  labels.forEach((label, i) => {
    const [name, chart, value] = list.children[i].children;
    name.textContent = nameOf(label);
    value.textContent = percent(probabilities[label]);
    drawChart(chart, page.windows, label, from, from + page.shown, ink);
  });
  $("spectrogram").setAttribute("aria-label", `Spectrogram of ${seconds(page.shown)}. Likeliest: ${nameOf(labels[0])}`);
  page.redraw = () => showRows(probabilities, order);
}

async function openFile(file) {
  const { model } = page;
  const turn = await begin();
  say(`Reading ${visible(file.name)} …`);
  let samples;
  try {
    samples = await decode(await file.arrayBuffer(), model.about.sample_rate);
    if (!samples.length) throw new Error("no sample");
  } catch {
    if (turn === page.turn) say(`${visible(file.name)}: this browser cannot read sound in it. Try WAV, FLAC, MP3 or OGG.`, true);
    return;
  }
  if (turn !== page.turn) return; // something else was opened
  clear(samples.length / model.about.sample_rate);
  if ($("player").src) URL.revokeObjectURL($("player").src);
  $("player").src = URL.createObjectURL(file);
  $("player").hidden = false;
  try {
    await hearFile(file, samples, turn);
  } catch (error) {
    if (turn === page.turn) say(`${visible(file.name)}: the model stopped: ${error.message}`, true);
  }
}

async function hearFile(file, samples, turn) {
  const { model } = page;
  const hop = Math.max(1, Math.floor(model.window / 8));
  for await (const part of model.windows(samples, hop)) {
    if (turn !== page.turn) return;
    take(part);
    if (page.windows.length % 16 === 0) {
      say(`${visible(file.name)}: ${Math.round((100 * part.end) / page.shown)}% heard`);
      await new Promise((resolve) => setTimeout(resolve)); // lets the browser show it
    }
  }
  page.events.left().forEach(showEvent);
  const probabilities = await model.classify(samples, () => turn === page.turn);
  if (probabilities === null || turn !== page.turn) return;
  showRows(probabilities);
  const [best] = ranked(probabilities);
  say(`${visible(file.name)}, ${seconds(page.shown)}: ${nameOf(best)}, ${percent(probabilities[best])}`);
}

async function startMicrophone() {
  const { model } = page;
  $("player").hidden = true;
  $("player").pause();
  const turn = await begin();
  clear(Math.max(SHOWN_SECONDS, (2 * model.window) / model.about.sample_rate));
  say("Waiting for the microphone …");
  let microphone;
  try {
    microphone = await Microphone.open(model.about.sample_rate, model.window);
  } catch (error) {
    const why = error.name === "NotAllowedError" ? "the browser was not allowed to use it" : error.message;
    if (turn === page.turn) say(`No microphone: ${why}`, true);
    return;
  }
  if (turn !== page.turn) { // something else was opened while the browser asked
    await microphone.close();
    return;
  }
  page.microphone = microphone;
  $("microphone").textContent = "Stop the microphone";
  $("microphone").setAttribute("aria-pressed", "true");
  say("Listening …");
  const length = model.window / model.about.sample_rate;
  let last = -Infinity;
  let busy = false; // a slow machine skips windows rather than fall behind
  microphone.onsound = async () => {
    const end = microphone.seconds;
    if (busy || end - last < length / 8 || turn !== page.turn) return;
    busy = true;
    try {
      const samples = await microphone.latest();
      if (samples === null) return;
      last = end;
      const heard = await model.hear(samples);
      if (turn !== page.turn) return;
      take({ ...heard, start: end - length, end });
      const most = heard.probabilities.map((_, label) => Math.max(...page.windows.map((part) => part.probabilities[label])));
      showRows(heard.probabilities, ranked(most));
    } catch (error) {
      say(`The model stopped: ${error.message}`, true);
      await stopMicrophone();
    } finally {
      busy = false;
    }
  };
}

async function stopMicrophone() {
  const { microphone } = page;
  page.microphone = null;
  $("microphone").textContent = "Use the microphone";
  $("microphone").setAttribute("aria-pressed", "false");
  if (!microphone) return;
  microphone.onsound = () => {};
  page.events.left().forEach(showEvent);
  await microphone.close();
  say("Stopped.");
}

function connect() {
  $("microphone").addEventListener("click", () => (page.microphone ? stopMicrophone() : startMicrophone()));
  $("file").addEventListener("change", ({ target }) => {
    if (target.files.length) openFile(target.files[0]);
    target.value = ""; // the same file may be opened again
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dropping"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    if (event.dataTransfer.files.length) openFile(event.dataTransfer.files[0]);
  });
  $("mask-shown").addEventListener("change", ({ target }) => { $("mask").hidden = !target.checked; });
  addEventListener("resize", () => page.redraw?.());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => page.redraw?.());
}

async function main() {
  try {
    page.model = await Model.load(window.RUNTIME, window.MODEL);
  } catch (error) {
    say(`The model cannot be loaded in this browser: ${error.message}`, true);
    return;
  }
  page.strip = new Strip($("spectrogram"), $("mask"), page.model.about.bins);
  $("mask-line").hidden = !page.model.hasMask;
  $("microphone").disabled = $("file").disabled = false;
  connect();
  say("Ready.");
}

main();
