// Values to colours: pure functions from arrays of numbers to RGBA pixels.

const WHITE = [255, 255, 255];
const CHANNEL_COLOURS = {
  1: [WHITE],
  2: [[255, 0, 255], [0, 255, 0]],
  3: [[255, 0, 0], [0, 255, 0], [0, 0, 255]],
  4: [[255, 0, 0], [0, 255, 0], [0, 0, 255], WHITE],
};
const HEAT = [
  [0, 0, 4], [53, 18, 88], [45, 74, 138], [23, 127, 137], [66, 174, 105],
  [184, 205, 64], [255, 248, 196],
];
const NOT_ANNOTATED = 0xffffffff;
const LITTLE = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

const packed = LITTLE
  ? (r, g, b, a) => ((a << 24) | (b << 16) | (g << 8) | r) >>> 0
  : (r, g, b, a) => ((r << 24) | (g << 16) | (b << 8) | a) >>> 0;

// One colour for each of 256 steps from 0 to 1.
const HEAT_COLOURS = Uint32Array.from({ length: 256 }, (_, i) => {
  const place = (i / 255) * (HEAT.length - 1);
  const below = Math.min(Math.floor(place), HEAT.length - 2);
  const mix = (k) => HEAT[below][k] + (place - below) * (HEAT[below + 1][k] - HEAT[below][k]);
  return packed(mix(0), mix(1), mix(2), 255);
});

// Returns an image; `windows` holds black and white of each channel, `channel` is the
// number of the one to show in grey, or -1 for all in colours.
export function paintImage({ values, height, width, channels }, windows, channel) {
  const colours = CHANNEL_COLOURS[channels] ?? CHANNEL_COLOURS[3];
  const shown = channel < 0 ? colours.map((_, c) => c) : [channel];
  const pixels = new Uint8ClampedArray(4 * height * width);
  for (let i = 3; i < pixels.length; i += 4) pixels[i] = 255;
  for (const c of shown) {
    const [red, green, blue] = channel < 0 ? colours[c] : WHITE;
    const [black, white] = windows[c];
    const factor = 1 / (white - black || 1);
    for (let i = c, k = 0; k < pixels.length; i += channels, k += 4) {
      const value = Math.min(Math.max((values[i] - black) * factor, 0), 1);
      pixels[k] += red * value;
      pixels[k + 1] += green * value;
      pixels[k + 2] += blue * value;
    }
  }
  return new ImageData(pixels, width, height);
}

// Returns labels, which have a margin of one pixel, as outlines or filled; `chosen` is
// the number that is made bright.
export function paintLabels({ values, height, width }, { mode, colour, chosen }) {
  const [rows, columns] = [height - 2, width - 2];
  const data = new ImageData(columns, rows);
  const pixels = new Uint32Array(data.data.buffer);
  const line = packed(...colour, 255);
  const bright = packed(255, 255, 255, mode === "filled" ? 255 : 110);
  const grey = packed(128, 128, 128, 90);
  let last = 0;
  let fill = 0;
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const i = (y + 1) * width + x + 1;
      const value = values[i];
      if (value === 0) continue;
      const k = y * columns + x;
      if (value === NOT_ANNOTATED) {
        pixels[k] = grey;
        continue;
      }
      const inside = value === values[i - 1] && value === values[i + 1]
        && value === values[i - width] && value === values[i + width];
      if (mode === "outlines" && !inside) {
        pixels[k] = line;
      } else if (value === chosen) {
        pixels[k] = bright;
      } else if (mode === "filled") {
        if (value !== last) [last, fill] = [value, labelColour(value)];
        pixels[k] = fill;
      }
    }
  }
  return data;
}

// Returns a map in colours from black to yellow, which stands for `largest`; `channel`
// is a class, or -1 for all but the first class.
export function paintHeat(tile, channel, largest) {
  const data = new ImageData(tile.width, tile.height);
  const pixels = new Uint32Array(data.data.buffer);
  for (let k = 0; k < pixels.length; k++) {
    const value = heatValue(tile, k, channel) / largest;
    pixels[k] = HEAT_COLOURS[Math.round(255 * Math.min(Math.max(value, 0), 1))];
  }
  return data;
}

// Returns the probability of a class at pixel `k`.
export function heatValue({ values, channels }, k, channel) {
  if (channels === 1) return values[k];
  return channel < 0 ? 1 - values[k * channels] : values[k * channels + channel];
}

// Returns the colour of a number: consecutive ones are far apart in hue, as in reports.
function labelColour(number) {
  const hue = (number * 0.6180339887498949) % 1;
  const light = 255 * (0.7 + 0.3 * ((number * 0.7548776662466927) % 1));
  const part = (shift) => light * (0.6 + 0.4 * Math.cos(2 * Math.PI * (hue - shift)));
  return packed(part(0), part(1 / 3), part(2 / 3), 255);
}
