// What a model hears in sound, as the command line has it: windows, probabilities, events. Nothing of the page is here.
"use strict";

const QUIET = 40; // a window is a pause if its level is more than this below the loudest window's, in decibels
const THRESHOLD = 0.4, MARGIN = 0.2, LEVEL = -60, AGREE = 2; // as in `specenhance listen`

/** List where the windows of a sound start: one every `hop` samples, and one that ends with the sound. */
function windowStarts(length, window, hop) {
  const starts = [];
  for (let start = 0; start + window <= length; start += hop) starts.push(start);
  const end = starts.length ? starts[starts.length - 1] + window : 0;
  if (length > end) starts.push(Math.max(0, length - window));
  return starts;
}

/** Give the level of samples in dBFS. Silence has -Infinity. */
function levelOf(samples) {
  let power = 0;
  for (const sample of samples) power += sample * sample;
  return 10 * Math.log10(power / samples.length);
}

/** Turn logits into probabilities: a softmax, or a sigmoid of each if the model is multi-label. */
function probabilitiesOf(logits, multiLabel) {
  const values = Array.from(logits);
  if (multiLabel) return values.map((value) => 1 / (1 + Math.exp(-value)));
  const largest = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

/** Average the probabilities of the windows of a sound. Pauses do not count. */
function pooled(heard) {
  const loudest = Math.max(...heard.map((part) => part.level));
  const counted = loudest === -Infinity ? heard : heard.filter((part) => part.level >= loudest - QUIET);
  return counted[0].probabilities.map((_, label) => counted.reduce((sum, part) => sum + part.probabilities[label], 0) / counted.length);
}

/** List labels by their values, the largest first. Of equal ones, the lower label comes first. */
function ranked(values) {
  return values.map((_, label) => label).sort((a, b) => values[b] - values[a] || a - b);
}

/** List the classes that a window has: one that is clear, or each that reaches its own threshold. */
function decided(part, thresholds) {
  if (part.level < LEVEL) return [];
  if (thresholds) return thresholds.flatMap((threshold, label) => (part.probabilities[label] >= threshold ? [label] : []));
  const [best, second] = ranked(part.probabilities);
  const margin = part.probabilities[best] - (second === undefined ? 0 : part.probabilities[second]);
  return part.probabilities[best] >= THRESHOLD && margin >= MARGIN ? [best] : [];
}

/** Turns windows into events: consecutive windows with the same class. */
class Events {
  constructor(thresholds) {
    this.thresholds = thresholds;
    this.runs = new Map();
    this.windows = 0;
  }

  /** Take the next window. Give the events that it has ended. */
  after(part) {
    this.windows += 1;
    const labels = decided(part, this.thresholds);
    const ended = [];
    for (const [label, run] of this.runs) {
      if (labels.includes(label)) continue;
      this.runs.delete(label);
      if (run.windows >= AGREE) ended.push(run);
    }
    for (const label of labels) {
      const run = this.runs.get(label) ?? { label, start: part.start, probability: 0, windows: 0 };
      run.end = part.end;
      run.probability = Math.max(run.probability, part.probabilities[label]);
      run.windows += 1;
      this.runs.set(label, run);
    }
    return ended;
  }

  /** Give the events that go on now. */
  sure() {
    return [...this.runs.values()].filter((run) => run.windows >= AGREE);
  }

  /** Give the events that the end of the sound has ended. */
  left() {
    return [...this.runs.values()].filter((run) => run.windows >= Math.min(AGREE, this.windows));
  }
}

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** A model in onnxruntime-web. It computes one window at a time. */
class Model {
  constructor(runtime, session, about) {
    this.runtime = runtime;
    this.session = session;
    this.about = about;
    const seconds = about.clip_seconds;
    const whole = seconds === null ? about.samples : Math.round(seconds * about.sample_rate);
    this.window = Math.min(Math.max(whole, 1), about.samples); // samples
    this.hasMask = session.outputNames.includes("mask_time");
    this.last = Promise.resolve();
  }

  static async load(runtime, model) {
    const url = URL.createObjectURL(new Blob([bytesOf(runtime.program)], { type: "text/javascript" }));
    const ort = (await import(url)).default;
    URL.revokeObjectURL(url);
    ort.env.wasm.numThreads = 1; // more need headers that a plain web server does not send
    ort.env.wasm.wasmBinary = bytesOf(runtime.webassembly);
    return new Model(ort, await ort.InferenceSession.create(bytesOf(model.onnx)), model.about);
  }

  /** Map samples, a Float32Array at the model's rate, to what it hears in them. */
  hear(samples) {
    this.last = this.last.catch(() => {}).then(() => this.compute(samples));
    return this.last;
  }

  async compute(samples) {
    const outputs = await this.session.run({ waveform: new this.runtime.Tensor("float32", samples, [1, samples.length]) });
    const { about } = this;
    const length = about.samples - (about.frames - 1) * this.hop; // of a frame
    const real = Math.min(about.frames, Math.max(0, 1 + Math.floor((samples.length - length) / this.hop)));
    return {
      probabilities: probabilitiesOf(outputs.logits.data, about.thresholds !== null),
      level: levelOf(samples),
      spectrogram: outputs.spectrogram.data, // frame after frame
      maskTime: this.hasMask ? outputs.mask_time.data : null,
      maskFreq: this.hasMask ? outputs.mask_freq.data : null,
      frames: real, // what follows is padding
    };
  }

  /** Samples from one frame to the next. */
  get hop() {
    return Math.round(this.about.hop_seconds * this.about.sample_rate);
  }

  /** Hear a whole sound in windows, every `hop` samples. Gives each window when it is computed. */
  async *windows(samples, hop) {
    for (const start of windowStarts(samples.length, this.window, hop)) {
      const part = samples.slice(start, start + this.window);
      const rate = this.about.sample_rate;
      yield { ...(await this.hear(part)), start: start / rate, end: (start + part.length) / rate };
    }
  }

  /** Classify a whole sound, as `specenhance predict` does: one window, or windows that overlap by half. Null if it is to stop. */
  async classify(samples, goesOn = () => true) {
    if (samples.length <= this.about.samples) return (await this.hear(samples)).probabilities;
    const heard = [];
    for await (const part of this.windows(samples, Math.max(1, Math.floor(this.window / 2)))) {
      if (!goesOn()) return null;
      heard.push(part);
    }
    return pooled(heard);
  }
}

/** Decode a sound file to one channel, a Float32Array at a sample rate. */
async function decode(bytes, rate) {
  const context = new OfflineAudioContext(1, 1, rate);
  return mixed(await context.decodeAudioData(bytes));
}

/**
 * Undo Chromium's conversion of 16-bit samples. It divides those above 0 by 32767 and the others by 32768. This bends the wave a
 * little, which changes the logarithm of faint bins. Samples of another origin stay as they are.
 */
function unbent(samples) {
  const isWhole = (value) => Math.abs(value - Math.round(value)) < 0.01;
  if (!samples.every((sample) => isWhole(sample * (sample > 0 ? 32767 : 32768)))) return samples;
  return samples.map((sample) => (sample > 0 ? Math.round(sample * 32767) / 32768 : sample));
}

function mixed(buffer) {
  const sum = new Float32Array(buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel += 1) {
    const samples = unbent(buffer.getChannelData(channel));
    for (let i = 0; i < sum.length; i += 1) sum[i] += samples[i] / buffer.numberOfChannels;
  }
  return sum;
}

/** Convert samples to another rate. */
async function resampled(samples, from, to) {
  const buffer = new AudioBuffer({ length: samples.length, numberOfChannels: 1, sampleRate: from });
  buffer.copyToChannel(samples, 0);
  const context = new OfflineAudioContext(1, Math.ceil((samples.length * to) / from), to);
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(context.destination);
  source.start();
  return (await context.startRendering()).getChannelData(0);
}

const TAP = `registerProcessor("tap", class extends AudioWorkletProcessor {
  process(inputs) {
    if (inputs[0].length) this.port.postMessage(inputs[0][0].slice());
    return true;
  }
});`;

/** The microphone's latest samples at the model's rate. */
class Microphone {
  /** Open it. Some browsers cannot convert its rate: then the samples of each window are converted. */
  static async open(rate, length) {
    if (!navigator.mediaDevices) throw new Error("this page gets no microphone: open it from a disk, from this machine, or by https");
    // The model was trained on sound as it is.
    const constraints = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: constraints });
    let context;
    try {
      context = new AudioContext({ sampleRate: rate });
      let source;
      try {
        source = context.createMediaStreamSource(stream);
      } catch {
        await context.close();
        context = new AudioContext();
        source = context.createMediaStreamSource(stream);
      }
      // A page that was opened from a disk may load a worklet only from such an address.
      await context.audioWorklet.addModule(`data:text/javascript,${encodeURIComponent(TAP)}`);
      const tap = new AudioWorkletNode(context, "tap", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
      source.connect(tap);
      return new Microphone(stream, context, tap, rate, length);
    } catch (error) {
      stream.getTracks().forEach((track) => track.stop());
      await context?.close();
      throw error;
    }
  }

  constructor(stream, context, tap, rate, length) {
    this.stream = stream;
    this.context = context;
    this.rate = rate;
    this.kept = new Float32Array(Math.ceil((length * context.sampleRate) / rate));
    this.length = length;
    this.arrived = 0; // samples so far, at the microphone's rate
    this.onsound = () => {};
    tap.port.onmessage = ({ data }) => {
      this.kept.copyWithin(0, data.length);
      this.kept.set(data.slice(-this.kept.length), Math.max(0, this.kept.length - data.length));
      this.arrived += data.length;
      this.onsound();
    };
  }

  /** Seconds of sound so far. */
  get seconds() {
    return this.arrived / this.context.sampleRate;
  }

  /** Give the latest window, or null before there is a whole one. */
  async latest() {
    if (this.arrived < this.kept.length) return null;
    const { sampleRate } = this.context;
    const samples = this.kept.slice();
    return sampleRate === this.rate ? samples : (await resampled(samples, sampleRate, this.rate)).slice(0, this.length);
  }

  async close() {
    this.stream.getTracks().forEach((track) => track.stop());
    await this.context.close();
  }
}
