// One sweep over the tiles of a feature map: style_transfer/piecewise/tiled.py in JavaScript.
// A map is {channels, height, width, data}: Float32Array [channels, height, width].

/** Boundaries that cut 0..units into the fewest parts of at most `most`, about equally large. */
export function cuts(units, most) {
  const parts = Math.ceil(units / most);
  return Array.from({ length: parts + 1 }, (_, i) => Math.floor((i * units) / parts));
}

function spans(boundaries, side, margin) {
  const unit = side / boundaries.at(-1);
  return boundaries.slice(1).map((stop, i) => {
    const [start, end] = [boundaries[i] * unit, stop * unit];
    return { start, end, from: Math.max(start - margin, 0), to: Math.min(end + margin, side) };
  });
}

/** Copy a rectangle of a map. */
export function cutOut(map, top, bottom, left, right) {
  const [height, width] = [bottom - top, right - left];
  const data = new Float32Array(map.channels * height * width);
  let to = 0;
  for (let channel = 0; channel < map.channels; channel++) {
    for (let y = top; y < bottom; y++, to += width) {
      const from = (channel * map.height + y) * map.width + left;
      data.set(map.data.subarray(from, from + width), to);
    }
  }
  return { channels: map.channels, height, width, data };
}

/** Mean and biased variance per channel of a map that is measured part by part. */
class Moments {
  constructor(channels) {
    this.pixels = 0;
    this.mean = new Float64Array(channels);
    this.squares = new Float64Array(channels);
  }

  /** Add a rectangle of a map; merged without cancellation (Chan, Golub & LeVeque 1983). */
  add(map, top, left, height, width) {
    const count = height * width;
    const share = count / (this.pixels + count);
    for (let channel = 0; channel < map.channels; channel++) {
      let sum = 0;
      let squares = 0;
      const first = (channel * map.height + top) * map.width + left;
      for (let y = 0, from = first; y < height; y++, from += map.width) {
        for (let x = from; x < from + width; x++) sum += map.data[x];
      }
      const mean = sum / count;
      for (let y = 0, from = first; y < height; y++, from += map.width) {
        for (let x = from; x < from + width; x++) squares += (map.data[x] - mean) ** 2;
      }
      const shift = mean - this.mean[channel];
      this.squares[channel] += squares + shift * shift * this.pixels * share;
      this.mean[channel] += shift * share;
    }
    this.pixels += count;
  }

  get variance() {
    return this.squares.map((sum) => sum / this.pixels);
  }
}

/**
 * Run a network over all tiles of a map.
 * grid: {rows, columns}, cuts of the sides. margin: pixels of the map around a tile that it looks at.
 * run(tile, top, left): the network, on a tile with its margin whose first pixel is at (top, left).
 * afterTile(): awaited after each; it may throw to stop.
 * Returns the whole output, and its moments if `measure`.
 */
export async function sweep(map, { grid, margin, measure, run, afterTile }) {
  let out = null;
  let moments = null;
  for (const row of spans(grid.rows, map.height, margin)) {
    for (const column of spans(grid.columns, map.width, margin)) {
      const tile = cutOut(map, row.from, row.to, column.from, column.to);
      const result = await run(tile, row.from, column.from);
      const scale = result.height / tile.height; // features are larger or smaller by a fixed factor
      if (!out) {
        const [height, width] = [map.height * scale, map.width * scale];
        const data = new Float32Array(result.channels * height * width);
        out = { channels: result.channels, height, width, data };
        if (measure) moments = new Moments(result.channels);
      }
      const [top, left] = [(row.start - row.from) * scale, (column.start - column.from) * scale];
      const [height, width] = [(row.end - row.start) * scale, (column.end - column.start) * scale];
      for (let channel = 0; channel < out.channels; channel++) {
        for (let y = 0; y < height; y++) {
          const from = (channel * result.height + top + y) * result.width + left;
          const to = (channel * out.height + row.start * scale + y) * out.width + column.start * scale;
          out.data.set(result.data.subarray(from, from + width), to);
        }
      }
      if (measure) moments.add(result, top, left, height, width);
      await afterTile();
    }
  }
  return { out, moments };
}
