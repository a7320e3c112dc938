/** Sound files in and out. */

import { PersonError } from "./errors.js";

const MOST_BYTES = 200e6;
const MOST_PACKED_BYTES = 20e6; // what is not wav has to be decoded as a whole
const HEADER_BYTES = 65536;
const USUAL_RATE = 48000;

/** The first `seconds` of a file as mono samples at its own rate where it says so: `{samples, sampleRate}`. */
export async function readSound(file, seconds) {
  const header = new DataView(await file.slice(0, HEADER_BYTES).arrayBuffer());
  const wav = wavLayout(header);
  if (file.size > (wav ? MOST_BYTES : MOST_PACKED_BYTES)) throw new PersonError("large");
  const sampleRate = wav?.sampleRate ?? flacRate(header) ?? USUAL_RATE;
  const part = wav ? file.slice(0, wav.start + Math.ceil(seconds * sampleRate) * wav.frameBytes) : file;
  try {
    const context = new OfflineAudioContext(1, 1, sampleRate); // decodes to its own rate
    const sound = await context.decodeAudioData(await part.arrayBuffer());
    return { samples: mono(sound).slice(0, Math.round(seconds * sampleRate)), sampleRate };
  } catch {
    throw new PersonError("unreadable");
  }
}

/** `samples` at another rate. */
export async function resample(samples, from, to) {
  if (from === to || !samples.length) return samples;
  const context = new OfflineAudioContext(1, Math.round((samples.length * to) / from), to);
  const buffer = new AudioBuffer({ length: samples.length, sampleRate: from });
  buffer.copyToChannel(samples, 0);
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(context.destination);
  source.start();
  return (await context.startRendering()).getChannelData(0);
}

/** A mono wav of 16 bits. */
export function encodeWav(samples, sampleRate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (place, name) => [...name].forEach((letter, i) => view.setUint8(place + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true);
  view.setUint32(24, sampleRate, true);
  view.setUint32(28, 2 * sampleRate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, i) => view.setInt16(44 + 2 * i, Math.max(-32768, Math.min(32767, Math.round(sample * 32768))), true));
  return new Blob([view], { type: "audio/wav" });
}

/** `chunks` end to end. */
export function joined(chunks) {
  const all = new Float32Array(chunks.reduce((length, chunk) => length + chunk.length, 0));
  let place = 0;
  for (const chunk of chunks) {
    all.set(chunk, place);
    place += chunk.length;
  }
  return all;
}

function mono(sound) {
  const sum = new Float32Array(sound.length);
  for (let channel = 0; channel < sound.numberOfChannels; channel++) {
    sound.getChannelData(channel).forEach((sample, i) => (sum[i] += sample / sound.numberOfChannels));
  }
  return sum;
}

/** Where a wav's samples start and how many bytes each frame has, or null for what is no wav. */
function wavLayout(view) {
  const name = (place) => String.fromCharCode(...[0, 1, 2, 3].map((i) => view.getUint8(place + i)));
  if (view.byteLength < 12 || name(0) !== "RIFF" || name(8) !== "WAVE") return null;
  let format = null;
  for (let place = 12; place + 8 <= view.byteLength; ) {
    const size = view.getUint32(place + 4, true);
    if (name(place) === "fmt " && place + 24 <= view.byteLength) {
      format = { sampleRate: view.getUint32(place + 12, true), frameBytes: view.getUint16(place + 20, true) };
    }
    if (name(place) === "data") return format && isRate(format.sampleRate) ? { ...format, start: place + 8 } : null;
    place += 8 + size + (size % 2);
  }
  return null;
}

/** A FLAC file's sample rate, or undefined. */
function flacRate(view) {
  if (view.byteLength < 42 || view.getUint32(0) !== 0x664c6143) return undefined; // "fLaC"
  const rate = view.getUint32(18) >>> 12;
  return isRate(rate) ? rate : undefined;
}

const isRate = (rate) => rate >= 8000 && rate <= 192000;
