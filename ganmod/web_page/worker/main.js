// The worker: networks run here, so that the page stays responsive. Messages in:
//   {type: "sizes", sizes}                       bytes of large files, by path
//   {type: "picture", id, blob, name, params}    a file, kept under its id; answered by the same type.
//                                                params: path of its parameters, for a built-in style
//   {type: "stylize", run, photo, maxPixels, shown, regions, mask, alpha, degrees, strokes}
//                                                shown: the page has this photo at this size
//   {type: "generate", run, seed, truncation, label, second}
// A newer run replaces an older one. Messages out: {type: "progress" | "photo" | "result" | "error", ...}.

import * as ort from "../built/ort/ort.wasm.bundle.min.mjs";
import { GeneratorModel } from "./generator.js";
import { UserError, check, decode } from "./pictures.js";
import { toBytes } from "./resample.js";
import { StyleModel, mix } from "./style_model.js";

const MAX_THREADS = 8; // one core is left to the page
const QUIET = 1500; // ms after the first picture, in which the next may begin
const WASM = "ort/ort-wasm-simd-threaded.wasm";
const root = new URL("../built/", import.meta.url);

ort.env.logLevel = "error";
ort.env.wasm.numThreads = self.crossOriginIsolated
  ? Math.min(Math.max((navigator.hardwareConcurrency || 1) - 1, 1), MAX_THREADS)
  : 1; // threads need the headers COOP and COEP

const files = new Map(); // id -> {blob, name}
const loaded = new Map(); // path -> bytes that have arrived
let sizes = {}; // path -> bytes, from page.json
let runtime = null; // promise
let preloading = null; // promise
const latest = { stylize: 0, generate: 0 }; // the run that counts, per kind
const models = {}; // promises
let photo = null; // {id, maxPixels, bytes, ...} of the last run
let queue = Promise.resolve();

class Replaced extends Error {}

/** The bytes of a file of the page; counts them in `loaded` while they arrive. */
async function fetchBytes(path) {
  let response;
  try {
    response = await fetch(new URL(path, root));
  } catch {
    throw new UserError(`${path} could not be loaded: check the connection and try again.`);
  }
  if (!response.ok) {
    throw new UserError(`${path} could not be loaded (status ${response.status}): reload the page.`);
  }
  const parts = [];
  let size = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    size += value.length;
    loaded.set(path, size);
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Load onnxruntime, then everything that load() does, with a report of the share of the bytes in `paths`. */
async function loading(paths, report, load) {
  const show = () => {
    const sum = (size) => paths.reduce((total, path) => total + (size(path) ?? 0), 0);
    const total = sum((path) => sizes[path]);
    report("load", total ? Math.min(sum((path) => loaded.get(path)) / total, 1) : 0);
  };
  show();
  const timer = setInterval(show, 200);
  try {
    runtime ??= fetchBytes(WASM).then((bytes) => (ort.env.wasm.wasmBinary = bytes));
    runtime.catch(() => (runtime = null)); // another attempt may succeed
    await runtime;
    await load();
  } finally {
    clearInterval(timer);
  }
}

function loadModel(kind, folder, manifest, Model) {
  models[kind] ??= fetchBytes(`${folder}/${manifest}`).then(
    (bytes) =>
      new Model(ort, JSON.parse(new TextDecoder().decode(bytes)), (name) => fetchBytes(`${folder}/${name}`)),
  );
  models[kind].catch(() => delete models[kind]);
  return models[kind];
}

const styleModel = () => loadModel("style", "model", "model.json", StyleModel);
const generatorModel = () => loadModel("generator", "generator", "generator.json", GeneratorModel);

/** Let messages in, then stop if a newer run has come. */
async function pause(kind, run) {
  await new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
  if (run !== latest[kind]) throw new Replaced();
}

/** Decode the photo at the size of the result, unless it is the last run's. */
async function readPhoto(id, maxPixels) {
  if (photo?.id !== id || photo.maxPixels !== maxPixels) {
    const { blob, name } = files.get(id);
    photo = null; // frees the memory of the last one
    photo = { id, maxPixels, ...(await decode(blob, name, maxPixels)) };
  }
  return photo;
}

/** Built-in styles come with the parameters that the model predicts for them as they are. */
async function useStoredParams(model, key, options) {
  const { params } = files.get(key);
  if (!params || options.degrees % 360 || options.scale !== 1 || model.knows(key, options)) return;
  const bytes = await fetchBytes(params);
  model.keep(key, options, new Float32Array(bytes.buffer));
}

async function stylize({ run, photo: id, maxPixels, shown, regions, mask, alpha, degrees, strokes }) {
  const report = (stage, share) => postMessage({ type: "progress", kind: "stylize", run, stage, share });
  const next = () => pause("stylize", run);
  const { bytes, width, height } = await readPhoto(id, maxPixels);
  const size = { width: bytes.width, height: bytes.height };
  const masked = mask?.width === size.width && mask.height === size.height; // false for another photo's mask
  postMessage({
    type: "photo",
    kind: "stylize",
    run,
    ...size,
    data: shown ? null : bytes.data,
    original: { width, height },
    masked,
  });
  await next();
  if (regions.length > 1 && !masked) throw new Replaced(); // the page will ask again, with a mask that fits
  const model = await styleModel();
  const options = { degrees, scale: strokes };
  const pictures = new Set(regions.flat(2).map((part) => part.picture));
  for (const key of pictures) await useStoredParams(model, key, options);
  const predicts = alpha < 1 || [...pictures].some((key) => !model.knows(key, options));
  const names = model.names(regions.length, predicts);
  const paths = [WASM, ...names.map((name) => `model/${name}.onnx`)];
  await loading(paths, report, () => model.load(names));
  await next();

  const started = performance.now();
  if (predicts) report("style", 0);
  const predict = async (key) => {
    const { blob, name } = files.get(key);
    const params = await model.predict(key, async () => (await decode(blob, name)).bytes, options);
    await next();
    return params;
  };
  const content = alpha < 1 ? await model.predict(`${id} at ${maxPixels}`, () => bytes) : null;
  const params = [];
  for (const scales of regions) {
    const perScale = []; // parameters of a mixture, per scale
    for (const parts of scales) {
      const predicted = [];
      for (const { picture, weight } of parts) {
        predicted.push({ params: await predict(picture), weight });
      }
      perScale.push(mix(predicted));
    }
    const packed = new Float32Array(model.manifest.num_parameters);
    for (const { scale, parameters } of model.manifest.stages) {
      packed.set(perScale[scale - 1].subarray(...parameters), parameters[0]);
    }
    params.push(
      content
        ? mix([
            { params: packed, weight: alpha },
            { params: content, weight: 1 - alpha },
          ])
        : packed,
    );
  }
  const predicted = performance.now();
  let shares = null;
  if (mask) {
    shares = new Float32Array(mask.data.length);
    for (let i = 0; i < shares.length; i++) shares[i] = mask.data[i] / 255;
  }
  const { data, stride, rows } = await model.stylize(bytes, params, shares, async (share) => {
    report("stylize", share);
    await next();
  });
  const image = toBytes({ ...size, data }, stride, rows);
  const seconds = { style: (predicted - started) / 1000, image: (performance.now() - predicted) / 1000 };
  postMessage({ type: "result", kind: "stylize", run, ...size, data: image, seconds }, [image.buffer]);
  preloading ??= new Promise((resolve) => setTimeout(resolve, QUIET)).then(preload);
  preloading.catch(() => (preloading = null)); // tried again after the next picture
}

/** After the first picture: load what other pictures need, so that they need no network. */
async function preload() {
  const model = await styleModel();
  for (const name of [...model.names(1, true), ...model.names(2, false)]) await model.session(name);
  postMessage({ type: "preloaded", kind: "stylize" });
}

async function generate({ run, ...choice }) {
  const report = (stage, share) => postMessage({ type: "progress", kind: "generate", run, stage, share });
  const model = await generatorModel();
  const paths = [WASM, "generator/mapping.onnx", "generator/synthesis.onnx"];
  await loading(paths, report, () => model.load());
  report("draw", 0);
  await pause("generate", run);
  const image = await model.generate(choice);
  postMessage({ type: "result", kind: "generate", run, ...image }, [image.data.buffer]);
}

function describe(error) {
  if (error instanceof UserError) return error.message;
  if (error instanceof RangeError || /memory|allocation/i.test(String(error))) {
    return "There is not enough memory for this picture: choose a smaller result size.";
  }
  return `The picture could not be computed (${error?.message ?? error}): reload the page and try again.`;
}

/** Keep a file if it is a picture of sufficient size. */
async function addPicture({ id, blob, name, params }) {
  try {
    await check(blob, name);
    files.set(id, { blob, name, params });
    postMessage({ type: "picture", id });
  } catch (error) {
    postMessage({ type: "picture", id, error: describe(error) });
  }
}

async function answer(kind, work, message) {
  if (message.run !== latest[kind]) return;
  try {
    await work(message);
  } catch (error) {
    if (error instanceof Replaced) return;
    postMessage({ type: "error", kind, run: message.run, message: describe(error) });
  }
}

self.onmessage = ({ data: message }) => {
  if (message.type === "picture") {
    addPicture(message);
  } else if (message.type === "sizes") {
    sizes = message.sizes;
  } else {
    const [kind, work] = message.type === "stylize" ? ["stylize", stylize] : ["generate", generate];
    latest[kind] = message.run;
    queue = queue.then(() => answer(kind, work, message)); // one at a time
  }
};
