/** Colours of the spectrogram by loudness, 256 each as RGBA: a cool grey for what a person said, matplotlib's magma for what is new. */

const GREY = [[11, 10, 18], [38, 41, 58], [84, 92, 118], [146, 156, 184], [232, 237, 250]];
const MAGMA = [
  [0, 0, 4], [10, 8, 34], [29, 17, 71], [54, 16, 107], [81, 18, 124], [106, 28, 129], [131, 38, 129], [156, 46, 127], [183, 55, 121],
  [208, 65, 111], [231, 82, 99], [245, 107, 92], [252, 137, 97], [254, 167, 114], [254, 196, 136], [253, 226, 163], [252, 253, 191],
];

/** 256 shades between the given ones. */
function shades(stops) {
  return Array.from({ length: 256 }, (_, shade) => {
    const place = (shade / 255) * (stops.length - 1);
    const below = Math.min(Math.floor(place), stops.length - 2);
    return [...stops[below].map((part, i) => part + (place - below) * (stops[below + 1][i] - part)), 255];
  });
}

export const PROMPT_COLORS = shades(GREY);
export const NEW_COLORS = shades(MAGMA);
