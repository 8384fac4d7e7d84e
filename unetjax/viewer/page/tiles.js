// Tiles: what the server sends, kept for a while, asked for as far as they are visible.

export const TILE = 512;
const MOST_KEPT = 160;
const MOST_AT_ONCE = 6;
const LAYERS = ["image", "prediction", "truth", "probability", "uncertainty"];
const TYPES = {
  uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, float32: Float32Array,
};

// Returns what the server answers, as JSON; its sentence becomes an error.
export async function ask(path) {
  const response = await fetch(path);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

export class Tiles {
  constructor(onLoad, onError) {
    this.kept = new Map();
    this.wanted = [];
    this.loading = new Set();
    this.onLoad = onLoad;
    this.onError = onError;
  }

  // Forgets what was wanted before, such as for another part of the image.
  begin() {
    this.wanted = [];
  }

  // Returns a tile {values, height, width, channels}, or undefined while it is loaded.
  get(item, layer, page, level, row, column) {
    const key = [item.index, LAYERS.indexOf(layer), page, level, row, column].join("/");
    const tile = this.kept.get(key);
    if (tile) {
      this.kept.delete(key); // to the end: the first ones are dropped
      this.kept.set(key, tile);
    } else {
      this.wanted.push({ key, described: item.layers[layer] });
    }
    return tile;
  }

  // Starts to load what is wanted.
  load() {
    for (const { key, described } of this.wanted) {
      if (this.loading.size >= MOST_AT_ONCE) return;
      if (!this.loading.has(key) && !this.kept.has(key)) this.fetch(key, described);
    }
  }

  async fetch(key, { type, channels }) {
    this.loading.add(key);
    try {
      const response = await fetch(`tile/${key}`);
      if (!response.ok) throw new Error((await response.json()).error);
      const values = new TYPES[type](await response.arrayBuffer());
      const [height, width] = ["X-Height", "X-Width"].map((n) => Number(response.headers.get(n)));
      this.kept.set(key, { values, height, width, channels });
      for (const old of this.kept.keys()) {
        if (this.kept.size <= MOST_KEPT) break;
        this.kept.delete(old);
      }
    } catch (error) {
      this.wanted = this.wanted.filter((each) => each.key !== key);
      this.onError(error);
      return;
    } finally {
      this.loading.delete(key);
    }
    this.onLoad();
  }
}
