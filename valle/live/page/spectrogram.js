/** The picture of a prompt and what follows it: time to the right, frequency upwards, the joint between the two marked. */

import { COLUMNS_A_SECOND, Columns, ROWS, height } from "./columns.js";
import { NEW_COLORS, PROMPT_COLORS } from "./colors.js";

const RANGE_DB = 60; // from the brightest colour to the darkest
const QUIETEST_DB = -120;
const QUIETEST_TOP_DB = -45; // so that silence stays dark
const BRIGHTEST_SHARE = 0.003; // of all points, which are of the brightest colour: one click darkens nothing
const MARGIN = { left: 42, right: 12, top: 6, bottom: 24 }; // CSS pixels
const FREQUENCIES = [0, 500, 1000, 2000, 4000, 8000];
const TIME_STEPS = [0.5, 1, 2, 5, 10, 20, 30, 60, 120];

export class Spectrogram {
  constructor(canvas) {
    this.canvas = canvas;
    this.picture = document.createElement("canvas"); // one pixel a column and row
    this.picture.height = ROWS;
    this.wanted = false;
    this.reset({ promptSeconds: 3, newSeconds: 10 });
    new ResizeObserver(() => this.draw()).observe(canvas);
    for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) {
      matchMedia(query).addEventListener("change", () => this.draw());
    }
  }

  /** An empty picture with room for a prompt and new audio. */
  reset({ promptSeconds, newSeconds }) {
    this.promptSeconds = promptSeconds; // until it is known, the longest
    this.newSeconds = newSeconds;
    this.columns = [];
    this.joint = null; // the number of the prompt's columns, once it has ended
    this.source = null;
    this.top = QUIETEST_TOP_DB;
    this.counts = new Uint32Array(160); // of points, by their level in dB above the quietest
    this.playhead = null; // seconds
    this.paintAll();
  }

  get seconds() {
    return this.promptSeconds + this.newSeconds;
  }

  /** Draw samples of the prompt, or of what follows it, behind those before. */
  push(samples, sampleRate) {
    this.source ??= new Columns(sampleRate);
    this.add(this.source.push(samples));
  }

  /** The prompt is over, after `seconds`. */
  endPrompt(seconds) {
    this.finish();
    this.promptSeconds = seconds;
    this.joint = Math.round(seconds * COLUMNS_A_SECOND);
    this.columns.length = Math.min(this.columns.length, this.joint);
    while (this.columns.length < this.joint) this.columns.push(new Float32Array(ROWS).fill(QUIETEST_DB));
    this.paintAll();
  }

  /** What follows is over too, after `seconds` of new audio. */
  endNew(seconds) {
    this.finish();
    this.newSeconds = seconds;
    this.columns.length = Math.min(this.columns.length, Math.round(this.seconds * COLUMNS_A_SECOND));
    this.paintAll();
  }

  finish() {
    if (this.source) this.add(this.source.finish());
    this.source = null;
  }

  add(columns) {
    const first = this.columns.length;
    const before = this.top;
    for (const column of columns) {
      this.columns.push(column);
      for (const level of column) this.counts[Math.min(159, Math.max(0, Math.round(level) - QUIETEST_DB))] += 1;
    }
    this.top = Math.max(QUIETEST_TOP_DB, 3 * Math.ceil(this.brightest / 3));
    if (this.top !== before) this.paintAll();
    else this.paint(first);
  }

  /** The level in dB that few points pass. */
  get brightest() {
    let left = BRIGHTEST_SHARE * this.columns.length * ROWS;
    let place = this.counts.length;
    while (place > 0 && left >= 0) left -= this.counts[--place];
    return place + QUIETEST_DB;
  }

  movePlayhead(seconds) {
    this.playhead = seconds;
    this.draw();
  }

  paintAll() {
    this.picture.width = Math.max(1, Math.ceil(this.seconds * COLUMNS_A_SECOND)); // clears it
    this.paint(0);
  }

  paint(first) {
    const count = Math.min(this.columns.length, this.picture.width) - first;
    if (count > 0) {
      const image = new ImageData(count, ROWS);
      for (let x = 0; x < count; x++) {
        const colors = this.joint === null || first + x < this.joint ? PROMPT_COLORS : NEW_COLORS;
        this.columns[first + x].forEach((level, row) => {
          const shade = Math.round(255 * Math.min(1, Math.max(0, 1 + (level - this.top) / RANGE_DB)));
          image.data.set(colors[shade], 4 * ((ROWS - 1 - row) * count + x));
        });
      }
      this.picture.getContext("2d").putImageData(image, first, 0);
    }
    this.draw();
  }

  /** At the next frame. */
  draw() {
    if (this.wanted) return;
    this.wanted = true;
    requestAnimationFrame(() => {
      this.wanted = false;
      this.drawNow();
    });
  }

  drawNow() {
    const { canvas, picture } = this;
    const scale = window.devicePixelRatio || 1;
    const [width, tall] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !tall) return;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(tall * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(tall * scale);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, tall);
    const box = { x: MARGIN.left, y: MARGIN.top, w: width - MARGIN.left - MARGIN.right, h: tall - MARGIN.top - MARGIN.bottom };
    const style = getComputedStyle(canvas);
    pen.font = `12px ${style.fontFamily}`;

    pen.save();
    pen.beginPath();
    pen.roundRect(box.x, box.y, box.w, box.h, 6);
    pen.clip();
    pen.fillStyle = style.getPropertyValue("--plot"); // where there is no sound yet
    pen.fillRect(box.x, box.y, box.w, box.h);
    pen.drawImage(picture, box.x, box.y, box.w, box.h);
    this.drawParts(pen, box, style.color);
    pen.restore();
    this.drawAxes(pen, box, style.color);
  }

  /** The joint, the names of the two parts and the playhead. */
  drawParts(pen, box, color) {
    const at = (seconds) => box.x + (box.w * seconds) / this.seconds;
    const joint = at(this.promptSeconds);
    pen.lineWidth = 2;
    pen.strokeStyle = this.joint === null ? color : "#fff";
    pen.setLineDash(this.joint === null ? [4, 5] : []);
    line(pen, joint, box.y, joint, box.y + box.h);
    pen.setLineDash([]);
    pen.textBaseline = "top";
    if (joint - box.x > 60) label(pen, "recording", joint - 6, box.y + 8, "right");
    if (box.x + box.w - joint > 120) label(pen, "the voice goes on", joint + 8, box.y + 8, "left");
    if (this.playhead !== null) {
      pen.strokeStyle = "#7dd3fc";
      line(pen, at(this.playhead), box.y, at(this.playhead), box.y + box.h);
    }
  }

  drawAxes(pen, box, color) {
    pen.fillStyle = color;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const hertz of FREQUENCIES) {
      const y = box.y + box.h * (1 - height(hertz));
      const name = hertz === 8000 ? "8 kHz" : String(hertz / 1000);
      pen.fillText(name, box.x - 6, Math.min(Math.max(y, box.y + 6), box.y + box.h - 5));
    }
    pen.textBaseline = "top";
    const step = TIME_STEPS.find((candidate) => (box.w * candidate) / this.seconds >= 44) ?? 300;
    for (let second = 0; second <= this.seconds + 1e-6; second += step) {
      const x = box.x + (box.w * second) / this.seconds;
      pen.textAlign = second === 0 ? "left" : x > box.x + box.w - 12 ? "right" : "center";
      pen.fillText(second === 0 ? "0 s" : String(second), x, box.y + box.h + 7);
    }
  }
}

function line(pen, x0, y0, x1, y1) {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

/** Text that can be read on any sound. */
function label(pen, text, x, y, align) {
  const { width } = pen.measureText(text);
  pen.fillStyle = "rgb(11 10 18 / 0.6)";
  pen.beginPath();
  pen.roundRect((align === "right" ? x - width : x) - 3, y - 4, width + 6, 20, 4);
  pen.fill();
  pen.fillStyle = "#fff";
  pen.textAlign = align;
  pen.fillText(text, x, y);
}
