// Functions for the elements of the page.

export const $ = (id) => document.getElementById(id);

/** Create an element: make("button", {class: "tile", title: "x"}, ...children). */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Show a message with a button that closes it; an empty text hides it. */
export function showError(box, text) {
  box.querySelector("p").textContent = text;
  box.hidden = !text;
  if (text) box.scrollIntoView({ block: "nearest" });
  box.querySelector("button").onclick = () => (box.hidden = true);
}

/** Let files be dropped on an element: take(files). */
export function acceptDrops(element, take) {
  let depth = 0; // of enter events: children send their own
  const mark = (change) => {
    depth = change ? Math.max(depth + change, 0) : 0;
    element.classList.toggle("dropping", depth > 0);
  };
  element.addEventListener("dragenter", () => mark(1));
  element.addEventListener("dragleave", () => mark(-1));
  element.addEventListener("dragover", (event) => event.preventDefault());
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    mark(0);
    if (event.dataTransfer.files.length) take(event.dataTransfer.files);
  });
}

/** Open the file dialog of a hidden input: take(files). */
export function pickFile(input, take) {
  input.onchange = () => {
    if (input.files.length) take([...input.files]);
    input.value = ""; // the same file may be chosen again
  };
  input.click();
}

/** Show a slider's value next to it, for eyes and for screen readers. */
export function bindSlider(input, output, describe, changed) {
  const show = () => {
    const text = describe(Number(input.value));
    if (output) output.textContent = text;
    input.setAttribute("aria-valuetext", text);
  };
  input.addEventListener("input", () => {
    show();
    changed?.();
  });
  show();
  return show;
}

/** Draw RGBA bytes on a canvas at their size. */
export function drawBytes(canvas, { width, height, data }) {
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(data), width, height), 0, 0);
}

/** Save a canvas as a PNG file. */
export async function savePng(canvas, name) {
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
