// The style-transfer model: networks from style_transfer/export.py, run tile by tile.

import { fromBytes, padToMultiple, prepareStyle } from "./resample.js";
import { cutOut, cuts, sweep } from "./tiles.js";

const TILE = 256; // pixels
export const SESSION = { executionProviders: ["wasm"], logSeverityLevel: 3 };
const MAX_CACHED = 64; // predicted styles

export class StyleModel {
  /** runtime: onnxruntime-web. manifest: model.json. fetchFile(name) -> bytes. */
  constructor(runtime, manifest, fetchFile) {
    this.runtime = runtime;
    this.manifest = manifest;
    this.fetchFile = fetchFile;
    this.sessions = new Map();
    this.predicted = new Map();
  }

  /** The session of a network; it is loaded once. */
  session(name) {
    if (!this.sessions.has(name)) {
      const loading = this.fetchFile(`${name}.onnx`).then((bytes) =>
        this.runtime.InferenceSession.create(bytes, SESSION),
      );
      loading.catch(() => this.sessions.delete(name)); // another attempt may succeed
      this.sessions.set(name, loading);
    }
    return this.sessions.get(name);
  }

  /** The names of the networks that an image of `regions` styles needs. */
  names(regions, predicts) {
    return [...(predicts ? ["predict"] : []), "encode", ...this.stageNames(regions)];
  }

  load(names) {
    return Promise.all(names.map((name) => this.session(name)));
  }

  stageNames(regions) {
    const suffix = regions === 1 ? "" : `-regions${regions}`;
    return this.manifest.stages.map((_, stage) => `stage${stage}${suffix}`);
  }

  tensor(map) {
    return new this.runtime.Tensor("float32", map.data, [1, map.channels, map.height, map.width]);
  }

  async run(session, inputs) {
    const { [session.outputNames[0]]: result } = await session.run(inputs);
    const [, channels, height, width] = result.dims;
    return { channels, height, width, data: result.data };
  }

  /** Whether the parameters of a style need no prediction. */
  knows(key, options = {}) {
    return this.predicted.has(JSON.stringify([key, options]));
  }

  /** Keep parameters that were predicted elsewhere. */
  keep(key, options, params) {
    if (this.predicted.size >= MAX_CACHED) this.predicted.delete(this.predicted.keys().next().value);
    this.predicted.set(JSON.stringify([key, options]), params);
  }

  /** Parameters, Float32Array, of a style; read() gives its RGBA bytes, `key` names it for the cache. */
  async predict(key, read, options = {}) {
    const name = JSON.stringify([key, options]);
    if (!this.predicted.has(name)) {
      const whole = this.manifest.whole_styles;
      const style = prepareStyle(fromBytes(await read()), this.manifest.style_size, { ...options, whole });
      const session = await this.session("predict");
      const inputs = { style: this.tensor({ channels: 3, ...style }) };
      const { [session.outputNames[0]]: result } = await session.run(inputs);
      this.keep(key, options, result.data);
    }
    return this.predicted.get(name);
  }

  /**
   * Stylise a photo.
   * photo: RGBA bytes {width, height, data}.
   * regions: packed parameters of each region, one Float32Array or two.
   * mask: the first region's share of each pixel, Float32Array in [0, 1]; for two regions.
   * afterTile(share of the work done): awaited after each tile; it may throw to stop.
   * Returns {data, stride, rows}: [3, rows, stride], of which the top left is the picture.
   */
  async stylize(photo, regions, mask, afterTile) {
    const { unit, encoder_margin: margin, stages } = this.manifest;
    let map = { channels: 3, ...padToMultiple(fromBytes(photo), unit) };
    const grid = {
      rows: cuts(map.height / unit, TILE / unit),
      columns: cuts(map.width / unit, TILE / unit),
    };
    const total = (stages.length + 1) * (grid.rows.length - 1) * (grid.columns.length - 1);
    let done = 0;
    const count = () => afterTile(++done / total);
    const shares = mask ? new Shares(mask, photo, unit) : null;
    const side = map.height;
    const names = this.stageNames(regions.length);

    let moments = null;
    for (let stage = -1; stage < stages.length; stage++) {
      const session = await this.session(stage < 0 ? "encode" : names[stage]);
      const common = stage < 0 ? {} : this.stageInputs(stage, regions, moments);
      const up = stage < 0 ? 1 : stages[stage].upsampling;
      const factor = side / map.height / up; // of the photo's pixels in one of the result's
      const run = (tile, top, left) => {
        const inputs = { ...common };
        if (stage < 0) {
          inputs.content = this.tensor(tile);
          const origin = BigInt64Array.from([BigInt(top), BigInt(left)]);
          inputs.origin = new this.runtime.Tensor("int64", origin, [2]);
        } else {
          inputs.x = this.tensor(tile);
          if (shares) {
            const whole = shares.at(factor);
            const [bottom, right] = [top + tile.height, left + tile.width];
            inputs.masks = this.tensor(cutOut(whole, top * up, bottom * up, left * up, right * up));
          }
        }
        return this.run(session, inputs);
      };
      const measure = stage + 1 < stages.length && stages[stage + 1].uses_statistics;
      const reach = stage < 0 ? margin : stages[stage].reach;
      ({ out: map, moments } = await sweep(map, { grid, margin: reach, measure, run, afterTile: count }));
    }
    return { data: map.data, stride: map.width, rows: map.height };
  }

  stageInputs(stage, regions, moments) {
    const { Tensor } = this.runtime;
    const [start, stop] = this.manifest.stages[stage].parameters;
    const packed = new Float32Array(regions.length * (stop - start));
    regions.forEach((params, i) => packed.set(params.subarray(start, stop), i * (stop - start)));
    const inputs = { parameters: new Tensor("float32", packed, [regions.length, stop - start]) };
    if (moments) {
      const shape = [1, moments.mean.length, 1, 1];
      inputs.mean = new Tensor("float32", Float32Array.from(moments.mean), shape);
      inputs.variance = new Tensor("float32", Float32Array.from(moments.variance), shape);
      inputs.pixels = new Tensor("float32", Float32Array.of(moments.pixels), [1]);
    }
    return inputs;
  }
}

/** The shares of two regions at every scale, padded like the photo. */
class Shares {
  constructor(mask, { width, height }, unit) {
    const data = new Float32Array(2 * mask.length);
    data.set(mask);
    for (let i = 0; i < mask.length; i++) data[mask.length + i] = 1 - mask[i];
    this.scales = new Map([[1, { channels: 2, ...padToMultiple({ width, height, data }, unit, 2) }]]);
  }

  /** Averaged over squares of factor x factor pixels. */
  at(factor) {
    if (!this.scales.has(factor)) {
      const full = this.scales.get(1);
      const [height, width] = [full.height / factor, full.width / factor];
      const data = new Float32Array(2 * height * width);
      for (let row = 0; row < 2 * full.height; row++) {
        const to = Math.floor(row / factor) * width;
        const from = row * full.width;
        for (let x = 0; x < full.width; x++) {
          data[to + Math.floor(x / factor)] += full.data[from + x] / (factor * factor);
        }
      }
      this.scales.set(factor, { channels: 2, height, width, data });
    }
    return this.scales.get(factor);
  }
}

/** Sum of weight * parameters. */
export function mix(parts) {
  const out = new Float32Array(parts[0].params.length);
  for (const { params, weight } of parts) {
    for (let i = 0; i < out.length; i++) out[i] += weight * params[i];
  }
  return out;
}
