// The tab that samples a StyleGAN2 generator.

import { $, bindSlider, drawBytes, make, savePng, showError } from "./dom.js";

const MAX_SEED = 2 ** 32 - 1;
const SMALL = 128; // pixels: below, pictures are shown with sharp pixels

export class GenerateTab {
  /** manifest: generator.json. */
  constructor(engine, manifest) {
    this.engine = engine;
    this.manifest = manifest;
    this.run = 0;
    this.opened = false;
    engine.listen("generate", (message) => this.receive(message));
    this.bind();
  }

  bind() {
    const rerun = () => this.schedule();
    bindSlider($("truncation"), $("truncation-value"), (value) => value.toFixed(2), rerun);
    for (const [input, dice] of [["seed", "dice"], ["seed-b", "dice-b"]]) {
      $(input).addEventListener("input", rerun);
      $(dice).addEventListener("click", () => {
        $(input).value = Math.floor(Math.random() * 100000);
        rerun();
      });
    }
    const { num_classes: count, class_names: names, levels } = this.manifest;
    $("class-row").hidden = !count;
    for (let i = 0; i < count; i++) $("class").append(make("option", { value: i }, names[i] ?? `${i}`));
    $("class").addEventListener("change", rerun);
    for (const { size, layers } of levels) {
      const box = make("input", { type: "checkbox", "data-layers": layers.join(" ") });
      box.addEventListener("change", rerun);
      $("levels").append(make("label", {}, box, make("span", {}, `${size} pixels`)));
    }
    $("sample-download").addEventListener("click", () => savePng($("sample"), this.fileName()));
  }

  fileName() {
    const second = this.second() ? ` with ${$("seed-b").value}` : "";
    return `seed ${$("seed").value}${second}.png`;
  }

  /** The tab is shown; the first time it draws a picture. */
  open() {
    if (!this.opened) this.schedule();
    this.opened = true;
  }

  schedule() {
    document.body.dataset.state = "busy";
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.start(), 150);
  }

  /** The seed and layers of the second picture, or null. */
  second() {
    const layers = [];
    for (const box of $("levels").querySelectorAll(":checked")) {
      const [start, stop] = box.dataset.layers.split(" ").map(Number);
      for (let layer = start; layer < stop; layer++) layers.push(layer);
    }
    return layers.length ? { seed: Number($("seed-b").value), layers } : null;
  }

  start() {
    showError($("sample-error"), "");
    for (const id of ["seed", "seed-b"]) {
      const value = $(id).value;
      if (!/^\d+$/.test(value) || Number(value) > MAX_SEED) {
        this.fail(`The seed is ${value || "empty"}, expected a whole number from 0 to ${MAX_SEED}.`);
        return;
      }
    }
    $("sample-progress").classList.add("busy");
    $("sample-progress").removeAttribute("value");
    $("sample-status").textContent = "Drawing";
    this.run = this.engine.start("generate", {
      seed: Number($("seed").value),
      truncation: Number($("truncation").value),
      label: Number($("class").value || 0),
      second: this.second(),
    });
  }

  receive(message) {
    if (message.type === "failed") this.fail(message.message);
    if (message.run !== this.run) return;
    if (message.type === "error") this.fail(message.message);
    if (message.type === "progress") this.showProgress(message);
    if (message.type === "result") this.showResult(message);
  }

  showProgress({ stage, share }) {
    $("sample-status").textContent = stage === "load" ? "Loading the generator" : "Drawing";
    if (stage === "load" && share < 1) $("sample-progress").value = share;
    else $("sample-progress").removeAttribute("value");
  }

  showResult(message) {
    drawBytes($("sample"), message);
    $("sample").classList.toggle("pixels", Math.max(message.width, message.height) < SMALL);
    $("sample-frame").style.setProperty("--ratio", message.width / message.height);
    $("sample-progress").classList.remove("busy");
    $("sample-status").textContent = `${message.width} × ${message.height} pixels`;
    $("sample-download").disabled = false;
    document.body.dataset.state = "idle";
  }

  fail(text) {
    document.body.dataset.state = "idle";
    $("sample-progress").classList.remove("busy");
    $("sample-status").textContent = "";
    showError($("sample-error"), text);
  }
}
