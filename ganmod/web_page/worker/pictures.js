// Decoding of picture files, with messages for those that cannot be used.

import { MIN_SIDE, fromBytes, resize, toBytes } from "./resample.js";

const MAX_DECODED = 16e6; // pixels of a canvas that every browser can draw

/** A problem that the visitor can solve; its message is shown. */
export class UserError extends Error {}

/** Draw a bitmap over white at width x height -> RGBA bytes. */
function draw(bitmap, width, height) {
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  return { width, height, data: context.getImageData(0, 0, width, height).data };
}

/** Width and height of at most `pixels`, aspect kept. */
export function limitedSize(width, height, pixels) {
  const scale = Math.min(1, Math.sqrt(pixels / (width * height)));
  return [width, height].map((side) => Math.max(Math.floor(side * scale), MIN_SIDE));
}

/** A file as a bitmap; throws UserError for what is no picture, or too small. */
async function open(blob, name) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
  } catch {
    throw new UserError(
      `${name} cannot be read as a picture: expected a JPEG, PNG, WebP or AVIF file, choose another one.`,
    );
  }
  const { width, height } = bitmap;
  if (Math.min(width, height) >= MIN_SIDE) return bitmap;
  bitmap.close();
  throw new UserError(
    `${name} is ${width} × ${height} pixels, expected at least ${MIN_SIDE} × ${MIN_SIDE}: choose a larger picture.`,
  );
}

/** Throw UserError unless `decode` accepts a file. */
export async function check(blob, name) {
  (await open(blob, name)).close();
}

/**
 * Decode a file -> {bytes: RGBA {width, height, data}, width, height}: the bytes have at most maxPixels,
 * width and height are those of the file. Throws UserError, see `check`.
 */
export async function decode(blob, name, maxPixels = MAX_DECODED) {
  const bitmap = await open(blob, name);
  const { width, height } = bitmap;
  let bytes = draw(bitmap, ...limitedSize(width, height, MAX_DECODED));
  bitmap.close();
  const [wide, high] = limitedSize(width, height, maxPixels);
  if (wide < bytes.width || high < bytes.height) {
    const small = resize(fromBytes(bytes), wide, high);
    bytes = { width: wide, height: high, data: toBytes(small) };
  }
  return { bytes, width, height };
}
