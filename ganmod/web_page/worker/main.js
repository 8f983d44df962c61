// The worker: networks run here, so that the page stays responsive. Messages in:
//   {type: "picture", id, blob, name}            a file, kept under its id; answered by the same type
//   {type: "stylize", run, photo, maxPixels, regions, mask, alpha, degrees, strokes}
//   {type: "generate", run, seed, truncation, label, second}
// A newer run replaces an older one. Messages out: {type: "progress" | "photo" | "result" | "error", ...}.

import * as ort from "../built/ort/ort.wasm.bundle.min.mjs";
import { GeneratorModel } from "./generator.js";
import { UserError, check, decode } from "./pictures.js";
import { toBytes } from "./resample.js";
import { StyleModel, mix } from "./style_model.js";

const MAX_THREADS = 8;
const root = new URL("../built/", import.meta.url);

ort.env.logLevel = "error";
ort.env.wasm.numThreads = self.crossOriginIsolated
  ? Math.min(navigator.hardwareConcurrency || 1, MAX_THREADS)
  : 1; // threads need the headers COOP and COEP

const files = new Map(); // id -> {blob, name}
const latest = { stylize: 0, generate: 0 }; // the run that counts, per kind
const models = {}; // promises
let photo = null; // {id, maxPixels, bytes, ...} of the last run
let queue = Promise.resolve();

class Replaced extends Error {}

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
  return new Uint8Array(await response.arrayBuffer());
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

async function stylize({ run, photo: id, maxPixels, regions, mask, alpha, degrees, strokes }) {
  const report = (stage, share) => postMessage({ type: "progress", kind: "stylize", run, stage, share });
  const next = () => pause("stylize", run);
  const { bytes, width, height } = await readPhoto(id, maxPixels);
  const size = { width: bytes.width, height: bytes.height };
  const masked = mask?.length === size.width * size.height; // false for a mask of another photo
  postMessage({
    type: "photo",
    kind: "stylize",
    run,
    ...size,
    data: bytes.data,
    original: { width, height },
    masked,
  });
  await next();
  if (regions.length > 1 && !masked) throw new Replaced(); // the page will ask again, with a mask that fits
  report("load", 0);
  const model = await styleModel();
  await model.load(regions.length);
  await next();

  const started = performance.now();
  report("style", 0);
  const predict = async (key, options) => {
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
        predicted.push({ params: await predict(picture, { degrees, scale: strokes }), weight });
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
    shares = new Float32Array(mask.length);
    for (let i = 0; i < mask.length; i++) shares[i] = mask[i] / 255;
  }
  const { data, stride, rows } = await model.stylize(bytes, params, shares, async (share) => {
    report("stylize", share);
    await next();
  });
  const image = toBytes({ ...size, data }, stride, rows);
  const seconds = { style: (predicted - started) / 1000, image: (performance.now() - predicted) / 1000 };
  postMessage({ type: "result", kind: "stylize", run, ...size, data: image, seconds }, [image.buffer]);
}

async function generate({ run, ...choice }) {
  postMessage({ type: "progress", kind: "generate", run, stage: "load", share: 0 });
  const model = await generatorModel();
  await model.load();
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
async function addPicture({ id, blob, name }) {
  try {
    await check(blob, name);
    files.set(id, { blob, name });
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
  } else {
    const [kind, work] = message.type === "stylize" ? ["stylize", stylize] : ["generate", generate];
    latest[kind] = message.run;
    queue = queue.then(() => answer(kind, work, message)); // one at a time
  }
};
