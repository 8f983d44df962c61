// Resizing and rotation of pictures as in style_transfer/prepare.py, in floating point.
// A picture is {width, height, data}: Float32Array [3, height, width] in [0, 1].

export const MIN_SIDE = 16;
const MAX_ASPECT = 16; // of a style, the long side by the short one, beyond which it is made smaller

/** Round to the nearest integer, halves to even, as Python does. */
export function roundEven(x) {
  const below = Math.floor(x);
  const rest = x - below;
  if (rest !== 0.5) return Math.round(x);
  return below % 2 === 0 ? below : below + 1;
}

/** Keys's cubic filter with a = -0.5, the one of Pillow. */
function cubic(x) {
  const a = -0.5;
  const t = Math.abs(x);
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  if (t < 2) return (((t - 5) * t + 8) * t - 4) * a;
  return 0;
}

/** The source pixels of every output pixel: first index and weights of sum 1, widened to avoid aliasing. */
function filterTaps(source, target) {
  const scale = source / target;
  const stretch = Math.max(scale, 1);
  const support = 2 * stretch;
  const taps = [];
  for (let i = 0; i < target; i++) {
    const center = scale * (i + 0.5);
    const first = Math.max(Math.trunc(center - support + 0.5), 0);
    const last = Math.min(Math.trunc(center + support + 0.5), source);
    const weights = new Float32Array(Math.max(last - first, 0));
    let sum = 0;
    for (let j = 0; j < weights.length; j++) {
      const weight = cubic((j + first - center + 0.5) / stretch);
      weights[j] = weight;
      sum += weight;
    }
    for (let j = 0; j < weights.length; j++) weights[j] /= sum;
    taps.push({ first, weights });
  }
  return taps;
}

/** Filter the rows: [planes * height, width] -> [planes * height, target]. */
function resizeRows(data, rows, width, target) {
  const taps = filterTaps(width, target);
  const out = new Float32Array(rows * target);
  for (let row = 0; row < rows; row++) {
    const start = row * width;
    for (let i = 0; i < target; i++) {
      const { first, weights } = taps[i];
      let sum = 0;
      for (let j = 0; j < weights.length; j++) sum += weights[j] * data[start + first + j];
      out[row * target + i] = sum;
    }
  }
  return out;
}

/** Filter the columns: [planes, height, width] -> [planes, target, width]. */
function resizeColumns(data, planes, height, width, target) {
  const taps = filterTaps(height, target);
  const out = new Float32Array(planes * target * width);
  for (let plane = 0; plane < planes; plane++) {
    for (let i = 0; i < target; i++) {
      const { first, weights } = taps[i];
      const to = (plane * target + i) * width;
      for (let j = 0; j < weights.length; j++) {
        const from = (plane * height + first + j) * width;
        const weight = weights[j];
        for (let x = 0; x < width; x++) out[to + x] += weight * data[from + x];
      }
    }
  }
  return out;
}

function clampUnit(data) {
  for (let i = 0; i < data.length; i++) data[i] = Math.min(Math.max(data[i], 0), 1);
  return data;
}

/** Resize to width x height: bicubic, antialiased. */
export function resize(picture, width, height) {
  if (width === picture.width && height === picture.height) return picture;
  const rows = resizeRows(picture.data, 3 * picture.height, picture.width, width);
  return { width, height, data: clampUnit(resizeColumns(rows, 3, picture.height, width, height)) };
}

/** Resize the short side to `size` pixels, aspect kept. */
export function resizeShortSide(picture, size) {
  const scale = size / Math.min(picture.width, picture.height);
  const width = Math.max(roundEven(picture.width * scale), size);
  const height = Math.max(roundEven(picture.height * scale), size);
  return resize(picture, width, height);
}

function crop(picture, left, top, width, height) {
  const data = new Float32Array(3 * width * height);
  for (let row = 0; row < 3 * height; row++) {
    const plane = Math.floor(row / height);
    const from = (plane * picture.height + top + (row % height)) * picture.width + left;
    data.set(picture.data.subarray(from, from + width), row * width);
  }
  return { width, height, data };
}

/** Reflect a coordinate about the borders -0.5 and side - 0.5, then clip it to the pixels. */
function reflect(x, side) {
  let away = Math.abs(x + 0.5);
  const turns = Math.floor(away / side);
  away -= turns * side;
  const inside = turns % 2 === 0 ? away - 0.5 : side - away - 0.5;
  return Math.min(Math.max(inside, 0), side - 1);
}

/** Weights of four neighbours at -1, 0, 1, 2 for a position t in [0, 1) after the second: a = -0.75. */
function cubicWeights(t) {
  const a = -0.75;
  const near = (x) => ((a + 2) * x - (a + 3)) * x * x + 1;
  const far = (x) => ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return [far(t + 1), near(t), near(1 - t), far(2 - t)];
}

/**
 * Turn and enlarge a style about its centre; beyond its border it continues by reflection.
 * size: short side at scale 1. degrees: counter-clockwise. scale: of the strokes' width.
 * whole: keep the aspect, up to twice `size`; otherwise the result is size x size.
 */
export function prepareStyle(picture, size, { degrees = 0, scale = 1, whole = true } = {}) {
  const angle = ((degrees % 360) + 360) % 360;
  if (whole) {
    const [short, long] = [picture.width, picture.height].sort((a, b) => a - b);
    size = Math.max(Math.min(size, Math.floor((size * MAX_ASPECT * short) / long)), MIN_SIDE);
  }
  if (angle === 0 && scale === 1) {
    const resized = resizeShortSide(picture, size);
    if (whole) return resized;
    const left = Math.floor((resized.width - size) / 2);
    return crop(resized, left, Math.floor((resized.height - size) / 2), size, size);
  }
  const source = resizeShortSide(picture, Math.max(roundEven(size * scale), whole ? MIN_SIDE : 1));
  const { width, height } = source;
  const rows = whole ? Math.min(height, 2 * size) : size;
  const columns = whole ? Math.min(width, 2 * size) : size;
  const turn = (angle * Math.PI) / 180;
  const [cos, sin] = [Math.cos(turn), Math.sin(turn)];
  const centerX = Math.floor((width - columns) / 2) + columns / 2 - 0.5;
  const centerY = Math.floor((height - rows) / 2) + rows / 2 - 0.5;
  const area = rows * columns;
  const out = new Float32Array(3 * area);
  const offsets = new Int32Array(16);
  const weights = new Float64Array(16);
  for (let row = 0; row < rows; row++) {
    const down = row - (rows - 1) / 2;
    for (let column = 0; column < columns; column++) {
      const right = column - (columns - 1) / 2;
      const x = cos * right - sin * down + centerX;
      const y = sin * right + cos * down + centerY;
      const [x0, y0] = [Math.floor(x), Math.floor(y)];
      const [acrossWeights, downWeights] = [cubicWeights(x - x0), cubicWeights(y - y0)];
      for (let j = 0; j < 4; j++) {
        const line = Math.trunc(reflect(y0 - 1 + j, height)) * width;
        for (let i = 0; i < 4; i++) {
          offsets[4 * j + i] = line + Math.trunc(reflect(x0 - 1 + i, width));
          weights[4 * j + i] = downWeights[j] * acrossWeights[i];
        }
      }
      for (let plane = 0; plane < 3; plane++) {
        const start = plane * width * height;
        let sum = 0;
        for (let k = 0; k < 16; k++) sum += weights[k] * source.data[start + offsets[k]];
        out[plane * area + row * columns + column] = sum;
      }
    }
  }
  return { width: columns, height: rows, data: clampUnit(out) };
}

/** Reflect at the bottom and the right to multiples of `multiple`; `planes` of data. */
export function padToMultiple({ width, height, data }, multiple, planes = 3) {
  const [wide, high] = [width, height].map((side) => Math.ceil(side / multiple) * multiple);
  if (wide === width && high === height) return { width, height, data };
  const out = new Float32Array(planes * wide * high);
  for (let plane = 0; plane < planes; plane++) {
    for (let y = 0; y < high; y++) {
      const from = (plane * height + (y < height ? y : 2 * (height - 1) - y)) * width;
      const to = (plane * high + y) * wide;
      out.set(data.subarray(from, from + width), to);
      for (let x = width; x < wide; x++) out[to + x] = data[from + 2 * (width - 1) - x];
    }
  }
  return { width: wide, height: high, data: out };
}

/** RGBA bytes, laid over white -> picture. */
export function fromBytes({ width, height, data }) {
  const area = width * height;
  const out = new Float32Array(3 * area);
  for (let i = 0; i < area; i++) {
    out[i] = data[4 * i] / 255;
    out[area + i] = data[4 * i + 1] / 255;
    out[2 * area + i] = data[4 * i + 2] / 255;
  }
  return { width, height, data: out };
}

/** Values of [planes, rows, stride] from `low` to `high` -> RGBA bytes of the top left width x height. */
export function toBytes({ width, height, data }, stride = width, rows = height, [low, high] = [0, 1]) {
  const out = new Uint8ClampedArray(4 * width * height);
  const planes = Math.min(3, data.length / (stride * rows));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const to = 4 * (y * width + x);
      for (let plane = 0; plane < 3; plane++) {
        const value = data[(Math.min(plane, planes - 1) * rows + y) * stride + x];
        out[to + plane] = ((value - low) / (high - low)) * 255; // rounds and clamps
      }
      out[to + 3] = 255;
    }
  }
  return out;
}
