// A StyleGAN2 generator: mapping and synthesis networks from ganmod/stylegan2/export.py.

import { randn } from "./random.js";
import { toBytes } from "./resample.js";
import { SESSION } from "./style_model.js";

export class GeneratorModel {
  /** runtime: onnxruntime-web. manifest: generator.json. fetchFile(name) -> bytes. */
  constructor(runtime, manifest, fetchFile) {
    this.runtime = runtime;
    this.manifest = manifest;
    this.fetchFile = fetchFile;
    this.sessions = null;
  }

  /** Load both networks, once. */
  load() {
    if (!this.sessions) {
      const names = ["mapping", "synthesis"];
      this.sessions = Promise.all(
        names.map(async (name) =>
          this.runtime.InferenceSession.create(await this.fetchFile(`${name}.onnx`), SESSION),
        ),
      );
      this.sessions.catch(() => (this.sessions = null)); // another attempt may succeed
    }
    return this.sessions;
  }

  async ws(mapping, seed, truncation, label) {
    const { z_dim: zDim, num_ws: numWs, num_classes: numClasses } = this.manifest;
    const { Tensor } = this.runtime;
    const inputs = {
      z: new Tensor("float32", randn(seed, zDim), [1, zDim]),
      truncation_psi: new Tensor("float32", new Float32Array(numWs).fill(truncation), [numWs]),
    };
    if (numClasses) {
      const oneHot = new Float32Array(numClasses);
      oneHot[label] = 1;
      inputs.c = new Tensor("float32", oneHot, [1, numClasses]);
    }
    const { [mapping.outputNames[0]]: ws } = await mapping.run(inputs);
    return ws;
  }

  /**
   * Draw an image. second: {seed, layers} takes those layers of ws from another seed, or null.
   * Returns RGBA bytes {width, height, data}.
   */
  async generate({ seed, truncation, label = 0, second = null }) {
    const [mapping, synthesis] = await this.load();
    const ws = await this.ws(mapping, seed, truncation, label);
    const mixed = Float32Array.from(ws.data);
    if (second) {
      const other = await this.ws(mapping, second.seed, truncation, label);
      const size = ws.dims[2];
      for (const layer of second.layers) {
        mixed.set(other.data.subarray(layer * size, (layer + 1) * size), layer * size);
      }
    }
    const inputs = { ws: new this.runtime.Tensor("float32", mixed, ws.dims) };
    const { [synthesis.outputNames[0]]: image } = await synthesis.run(inputs);
    const [, , height, width] = image.dims;
    return { width, height, data: toBytes({ width, height, data: image.data }, width, height, [-1, 1]) };
  }
}
