/** Power spectra of short windows of sound. */

const WINDOW_SECONDS = 0.032;

export class Fourier {
  /** For sound at `sampleRate` Hz: Hann windows of 32 ms, padded to a power of two. */
  constructor(sampleRate) {
    this.window = Math.round(sampleRate * WINDOW_SECONDS);
    this.size = 2 ** Math.ceil(Math.log2(this.window));
    this.hertz = sampleRate / this.size; // from one bin to the next
    this.hann = Float32Array.from({ length: this.window }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * (n + 0.5)) / this.window));
    this.cosine = Float32Array.from({ length: this.size / 2 }, (_, k) => Math.cos((2 * Math.PI * k) / this.size));
    this.sine = Float32Array.from({ length: this.size / 2 }, (_, k) => -Math.sin((2 * Math.PI * k) / this.size));
    this.real = new Float32Array(this.size);
    this.imaginary = new Float32Array(this.size);
  }

  /** Level of each bin in dB, `(size / 2 + 1,)`; a sine of full scale is at about 0. `samples` has `window` of them. */
  decibels(samples) {
    this.real.fill(0);
    this.imaginary.fill(0);
    for (let n = 0; n < this.window; n++) this.real[n] = samples[n] * this.hann[n];
    this.transform();
    const scale = (4 / this.window) ** 2; // the window's mean is a half, and half of a sine's power lies at negative frequencies
    return Float32Array.from({ length: this.size / 2 + 1 }, (_, k) => {
      const power = this.real[k] ** 2 + this.imaginary[k] ** 2;
      return 10 * Math.log10(power * scale + 1e-12);
    });
  }

  /** In place, radix 2: bits reversed, then butterflies. */
  transform() {
    const { size, real, imaginary, cosine, sine } = this;
    for (let i = 1, j = 0; i < size; i++) {
      let bit = size >> 1;
      for (; j & bit; bit >>= 1) j ^= bit;
      j ^= bit;
      if (i < j) {
        [real[i], real[j]] = [real[j], real[i]];
        [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
      }
    }
    for (let half = 1; half < size; half *= 2) {
      const step = size / (2 * half);
      for (let start = 0; start < size; start += 2 * half) {
        for (let k = 0; k < half; k++) {
          const a = start + k;
          const b = a + half;
          const c = cosine[k * step];
          const s = sine[k * step];
          const re = real[b] * c - imaginary[b] * s;
          const im = real[b] * s + imaginary[b] * c;
          real[b] = real[a] - re;
          imaginary[b] = imaginary[a] - im;
          real[a] += re;
          imaginary[a] += im;
        }
      }
    }
  }
}
