// What the page draws: a strip of spectrogram with its mask, and a small chart of a probability.
"use strict";

// matplotlib's magma at equal steps (public domain).
const MAGMA = [[0, 0, 4], [28, 16, 68], [79, 18, 123], [129, 37, 129], [181, 54, 122], [229, 80, 100], [251, 135, 97], [254, 194, 135], [252, 253, 191]];
const MASK = [0, 229, 190];
const OPACITY = 180; // of 255, of the largest value of a mask
const RANGE = 1.2; // a normalised spectrogram has a standard deviation of one half: this is 2.4 of them

function colour(value) {
  const at = Math.min(Math.max((value + RANGE) / (2 * RANGE), 0), 1) * (MAGMA.length - 1);
  const i = Math.min(Math.floor(at), MAGMA.length - 2);
  return MAGMA[i].map((from, k) => from + (at - i) * (MAGMA[i + 1][k] - from));
}

/** A strip of time: a column for each step, low frequencies at the bottom. The mask lies over the spectrogram. */
class Strip {
  constructor(spectrogram, mask, bins) {
    this.layers = [spectrogram, mask].map((canvas) => canvas.getContext("2d", { willReadFrequently: true }));
    this.bins = bins;
  }

  /** Clear it. `seconds` is what it shows, and `step` the time of one frame. */
  clear(seconds, step) {
    const columns = Math.max(1, Math.min(1200, Math.round(seconds / step)));
    for (const { canvas } of this.layers) [canvas.width, canvas.height] = [columns, this.bins];
    this.perColumn = seconds / columns;
    this.step = step;
    this.from = 0; // number of the first column
    this.last = null; // start of the last window
    this.values = Array(columns); // of the mask, a column each
    this.range = [Infinity, -Infinity]; // of the mask
  }

  /** Draw a window. What lies to the right of the strip moves it on. */
  draw(part) {
    const { bins } = this;
    if (!part.frames) return; // shorter than a frame
    // Of windows that overlap, the middle is kept: at its ends a window's mask knows less of what is beside it.
    const length = part.frames * this.step;
    const skipped = this.last === null ? 0 : Math.max(0, length - (part.start - this.last)) / 2;
    this.last = part.start;
    const first = Math.floor((part.start + skipped) / this.perColumn + 1e-6);
    const columns = Math.max(1, Math.round((length - skipped) / this.perColumn));
    this.scroll(first + columns);
    const image = this.layers[0].createImageData(columns, bins);
    const grew = part.maskTime && this.widen(part);
    for (let column = 0; column < columns; column += 1) {
      const frame = Math.min(part.frames - 1, Math.floor((skipped + column * this.perColumn) / this.step + 1e-6));
      for (let bin = 0; bin < bins; bin += 1) {
        const at = 4 * ((bins - 1 - bin) * columns + column);
        image.data.set([...colour(part.spectrogram[frame * bins + bin]), 255], at);
      }
      if (part.maskTime) this.values[first - this.from + column] = [part.maskTime[frame], part.maskFreq];
    }
    this.layers[0].putImageData(image, first - this.from, 0);
    // A value of the mask has one colour: where the range grows, all that is shown is drawn anew.
    if (part.maskTime) this.drawMask(grew ? 0 : first - this.from, grew ? this.values.length : first - this.from + columns);
  }

  drawMask(start, end) {
    const [low, high] = this.range;
    const { bins } = this;
    const image = this.layers[1].createImageData(end - start, bins);
    for (let column = start; column < end; column += 1) {
      if (!this.values[column]) continue;
      const [time, frequencies] = this.values[column];
      for (let bin = 0; bin < bins; bin += 1) {
        const strength = (time * frequencies[bin] - low) / (high - low || 1);
        image.data.set([...MASK, OPACITY * strength], 4 * ((bins - 1 - bin) * (end - start) + column - start));
      }
    }
    this.layers[1].putImageData(image, start, 0);
  }

  /** Take a window's mask into the range. Gives whether the range has grown. */
  widen(part) {
    const times = part.maskTime.slice(0, part.frames);
    const [low, high] = [Math.min(...times) * Math.min(...part.maskFreq), Math.max(...times) * Math.max(...part.maskFreq)];
    const grew = low < this.range[0] || high > this.range[1];
    this.range = [Math.min(this.range[0], low), Math.max(this.range[1], high)];
    return grew;
  }

  scroll(end) {
    const { width } = this.layers[0].canvas;
    const by = end - this.from - width;
    if (by <= 0) return;
    for (const layer of this.layers) {
      const kept = by < width ? layer.getImageData(by, 0, width - by, this.bins) : null;
      layer.clearRect(0, 0, width, this.bins);
      if (kept) layer.putImageData(kept, 0, 0);
    }
    this.values = this.values.slice(by);
    this.values.length = width;
    this.from += by;
  }
}

/** Draw a class's probability in windows over the time from `from` to `to`, in seconds. */
function drawChart(canvas, windows, label, from, to, ink) {
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((size) => Math.max(1, Math.round(size * scale)));
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  context.fillStyle = ink;
  windows.forEach((part, i) => {
    // A window stands for the time about its middle, up to the middles between it and its neighbours.
    const before = i ? (windows[i - 1].middle + part.middle) / 2 : part.start;
    const after = i + 1 < windows.length ? (windows[i + 1].middle + part.middle) / 2 : part.end;
    const x = Math.round(((Math.max(before, from) - from) / (to - from)) * width);
    const end = Math.round(((Math.min(after, to) - from) / (to - from)) * width);
    const tall = Math.round(part.probabilities[label] * height);
    if (end > x) context.fillRect(x, height - tall, end - x, tall);
  });
}
