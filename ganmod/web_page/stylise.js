// The tab that gives a photo a style.

import { $, acceptDrops, bindSlider, drawBytes, make, pickFile, savePng, showError } from "./dom.js";
import { MaskPainter } from "./mask.js";

const DELAY = 250; // ms between the last change and a run
const MODES = {
  one: { slots: ["Style"], hint: "Pick a style, or use any picture as one." },
  mix: { slots: ["Style A", "Style B"], hint: "Choose A or B, then a style for it. The slider mixes them." },
  scales: {
    slots: ["Coarse", "Medium", "Fine", "Finest"],
    hint: "One style for each scale of the picture, from broad shapes to the grain of the strokes.",
  },
  mask: { slots: ["Style A", "Style B"], hint: "Paint on the picture where A applies. B has the rest." },
};

export class StyliseTab {
  /** built: {photos, styles} of pictures.json. */
  constructor(engine, built) {
    this.engine = engine;
    this.photos = built.photos.map((entry) => ({ ...entry }));
    this.styles = built.styles.map((entry) => ({ ...entry }));
    this.photo = this.photos[0];
    this.mode = "one";
    this.slots = [0, 6, 3, 8].map((i) => this.styles[i % this.styles.length]);
    this.active = 0;
    this.run = 0;
    this.timer = 0;
    this.shown = null; // the photo whose result is on the page
    this.before = null; // {photo, maxPixels} of the photo that is drawn for comparison
    this.painter = new MaskPainter($("mask"), $("cursor"), () => this.schedule(0));
    engine.listen("stylize", (message) => this.receive(message));
    this.bind();
    this.renderPhotos();
    this.renderStyles();
    this.setView("result");
    $("credits").textContent = built.photos.map((photo) => `${photo.title} (${photo.credit})`).join(", ");
  }

  bind() {
    const rerun = () => this.schedule();
    bindSlider($("alpha"), $("alpha-value"), (value) => `${value} %`, rerun);
    bindSlider($("strokes"), $("strokes-value"), (value) => `${(2 ** value).toFixed(2)} ×`, rerun);
    bindSlider($("degrees"), $("degrees-value"), (value) => `${value}°`, rerun);
    bindSlider($("mix"), $("mix-value"), (value) => `${value} %`, rerun);
    bindSlider($("brush-size"), null, (value) => `${value} % of the picture`, () => {
      this.painter.size = $("brush-size").value / 100;
    });
    this.painter.size = $("brush-size").value / 100;
    bindSlider($("split"), null, (value) => `${value} % photo`, () => this.setSplit());
    $("size").addEventListener("change", rerun);
    $("reset").addEventListener("click", () => {
      for (const [id, value] of [["alpha", 100], ["strokes", 0], ["degrees", 0]]) {
        $(id).value = value;
        $(id).dispatchEvent(new Event("input"));
      }
    });
    $("modes").addEventListener("change", (event) => this.setMode(event.target.value));
    $("views").addEventListener("change", (event) => this.setView(event.target.value));
    for (const input of document.getElementsByName("brush")) {
      input.addEventListener("change", () => (this.painter.erasing = input.value === "erase"));
    }
    $("mask").addEventListener("keydown", (event) => {
      if (event.key.toLowerCase() !== "e") return;
      const next = document.querySelector('[name="brush"]:not(:checked)');
      next.checked = true;
      next.dispatchEvent(new Event("change"));
    });
    for (const button of document.querySelectorAll("[data-mask]")) {
      button.addEventListener("click", () => {
        this.painter.fill(button.dataset.mask);
        this.schedule(0);
      });
    }
    $("download").addEventListener("click", () => savePng($("after"), this.fileName()));
    $("add-style").addEventListener("click", () => {
      pickFile($("style-file"), (files) => this.addStyle(files[0], this.active));
    });
    acceptDrops($("stage"), (files) => this.addPhoto(files[0]));
    acceptDrops($("panel"), (files) => this.addStyle(files[0], this.active));
  }

  fileName() {
    const used = this.slots.slice(0, MODES[this.mode].slots.length).map((style) => style.title);
    const words = `${this.shown.title} in ${[...new Set(used)].join(" and ")}`;
    return `${words.replace(/[^\p{L}\p{N} ]+/gu, " ").trim().slice(0, 80)}.png`;
  }

  // Pictures

  tile(entry, pressed, choose) {
    const image = make("img", { src: entry.thumbnail, alt: "", loading: "lazy", width: 80, height: 80 });
    const tile = make("button", { type: "button", class: "tile", title: entry.title }, image);
    tile.setAttribute("aria-label", entry.title);
    tile.setAttribute("aria-pressed", pressed);
    tile.addEventListener("click", choose);
    return tile;
  }

  renderPhotos() {
    const choose = (entry) => () => {
      this.photo = entry;
      this.renderPhotos();
      this.schedule(0);
    };
    const add = make("button", { type: "button", class: "tile add", id: "add-photo" });
    add.append(make("b", { "aria-hidden": "true" }, "+"), "Your photo");
    add.addEventListener("click", () => pickFile($("photo-file"), (files) => this.addPhoto(files[0])));
    const tiles = this.photos.map((entry) => this.tile(entry, entry === this.photo, choose(entry)));
    replaceTiles($("photos"), [add, ...tiles]);
  }

  renderStyles() {
    const { slots: names, hint } = MODES[this.mode];
    $("mode-hint").textContent = hint;
    const slots = names.length === 1 ? [] : names.map((name, i) => this.slot(name, i));
    replaceTiles($("slots"), slots);
    const current = this.slots[this.active];
    const choose = (entry) => () => {
      this.slots[this.active] = entry;
      this.renderStyles();
      this.schedule(0);
    };
    $("style-name").textContent = names.length === 1 ? current.title : "";
    replaceTiles(
      $("styles"),
      this.styles.map((entry) => this.tile(entry, entry === current, choose(entry))),
    );
  }

  slot(name, index) {
    const style = this.slots[index];
    const text = make("span", {}, make("b", {}, name), make("small", {}, style.title));
    const image = make("img", { src: style.thumbnail, alt: "" });
    const slot = make("button", { type: "button", class: "slot" }, image, text);
    slot.setAttribute("aria-pressed", index === this.active);
    slot.addEventListener("click", () => {
      this.active = index;
      this.renderStyles();
    });
    acceptDrops(slot, (files) => this.addStyle(files[0], index));
    return slot;
  }

  /** Give a file to the engine; a message is shown if it is no picture. */
  async add(file) {
    showError($("error"), "");
    try {
      const id = await this.engine.addPicture(file, file.name);
      const title = file.name.replace(/\.\w+$/, "") || "picture";
      return { id, title, thumbnail: URL.createObjectURL(file) };
    } catch (error) {
      showError($("error"), error.message);
      return null;
    }
  }

  async addPhoto(file) {
    const entry = await this.add(file);
    if (!entry) return;
    this.photos.unshift(entry);
    this.photo = entry;
    this.renderPhotos();
    this.schedule(0);
  }

  async addStyle(file, index) {
    const entry = await this.add(file);
    if (!entry) return;
    this.styles.unshift(entry);
    this.slots[index] = entry;
    this.active = index;
    this.renderStyles();
    this.schedule(0);
  }

  /** The engine's id of a picture; a built-in one is fetched first. */
  async idOf(entry) {
    if (!entry.id) {
      const response = await fetch(entry.file);
      if (!response.ok) throw new Error(`${entry.file} could not be loaded: reload the page.`);
      entry.id = await this.engine.addPicture(await response.blob(), entry.title, entry.params);
    }
    return entry.id;
  }

  // Modes and views

  setMode(mode) {
    this.mode = mode;
    this.active = 0;
    $("mix-row").hidden = mode !== "mix";
    $("brushes").hidden = $("mask").hidden = mode !== "mask";
    this.renderStyles();
    const view = document.querySelector('[name="view"]:checked').value;
    if (mode === "mask" && view !== "result") $("views").querySelector("input").click();
    else this.setView(view);
    this.schedule(0);
  }

  setView(view) {
    $("frame").dataset.view = view;
    $("split").hidden = $("divider").hidden = view !== "compare";
    $("mask").hidden = this.mode !== "mask" || view === "compare";
    $("cursor").hidden = true;
    this.setSplit();
  }

  setSplit() {
    $("frame").style.setProperty("--split", `${$("split").value}%`);
  }

  // Runs

  /** Start a run after `delay` ms without another change. */
  schedule(delay = DELAY) {
    document.body.dataset.state = "busy";
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.start(), delay);
  }

  /** For each region of the picture, the mixture of styles at each of four scales. */
  async regions() {
    const used = this.slots.slice(0, MODES[this.mode].slots.length);
    const ids = [];
    for (const style of used) ids.push(await this.idOf(style));
    const everywhere = (parts) => [parts, parts, parts, parts];
    const single = (id) => [{ picture: id, weight: 1 }];
    if (this.mode === "scales") return [ids.map(single)];
    if (this.mode === "mask") return ids.map((id) => everywhere(single(id)));
    if (this.mode === "one") return [everywhere(single(ids[0]))];
    const share = $("mix").value / 100;
    const weights = [1 - share, share];
    return [everywhere(ids.map((picture, i) => ({ picture, weight: weights[i] })).filter((part) => part.weight))];
  }

  async start() {
    const attempt = (this.attempt = {});
    const photo = this.photo;
    this.setBusy("Starting", null);
    if (!this.shown) $("frame").style.backgroundImage = `url("${photo.file ?? photo.thumbnail}")`;
    let choice;
    try {
      choice = { photo: await this.idOf(photo), regions: await this.regions() };
    } catch (error) {
      if (attempt === this.attempt) this.fail(error.message);
      return;
    }
    if (attempt !== this.attempt) return; // something changed meanwhile
    if (this.shown !== photo) {
      $("frame").classList.add("waiting");
      $("download").disabled = true;
    }
    this.current = photo;
    this.asked = { photo: choice.photo, maxPixels: Number($("size").value) };
    const { before, asked } = this;
    this.run = this.engine.start("stylize", {
      ...choice,
      ...asked,
      shown: before?.photo === asked.photo && before.maxPixels === asked.maxPixels,
      alpha: $("alpha").value / 100,
      degrees: Number($("degrees").value),
      strokes: 2 ** $("strokes").value,
      mask: this.mode === "mask" && this.painter.ready ? this.painter.bytes() : null,
    });
  }

  receive(message) {
    if (message.type === "failed") this.fail(message.message);
    if (message.type === "preloaded") document.body.dataset.preloaded = "";
    if (message.run !== this.run) return;
    if (message.type === "photo") this.showPhoto(message);
    if (message.type === "progress") this.showProgress(message);
    if (message.type === "result") this.showResult(message);
    if (message.type === "error") this.fail(message.message);
  }

  showPhoto(message) {
    const { width, height, original } = message;
    if (message.data) {
      drawBytes($("before"), message);
      this.before = this.asked;
    }
    $("frame").style.backgroundImage = "";
    $("frame").style.setProperty("--ratio", width / height);
    const scaled = width < original.width;
    const megapixels = ((original.width * original.height) / 1e6).toFixed(1);
    $("note").textContent = scaled
      ? `The photo has ${megapixels} megapixels (${original.width} × ${original.height}); it was scaled down to ${width} × ${height}.`
      : "";
    this.painter.resize(width, height);
    if (this.mode === "mask" && !message.masked) this.schedule(0); // with a mask of this size
  }

  showProgress({ stage, share }) {
    const percent = Math.round(share * 100);
    if (stage === "load") this.setBusy(`Loading the model, ${percent} %`, share < 1 ? share : null);
    if (stage === "style") this.setBusy("Reading the style", null);
    if (stage === "stylize") this.setBusy(`Painting, ${percent} %`, share);
  }

  setBusy(text, share) {
    const bar = $("progress");
    bar.classList.add("busy");
    if (share === null) bar.removeAttribute("value");
    else bar.value = share;
    // Percentages are for the eye: a screen reader hears each stage once.
    const stage = text.split(",")[0];
    if (stage !== this.announced) $("status").textContent = stage;
    this.announced = stage;
    bar.setAttribute("aria-valuetext", text);
  }

  setIdle(text) {
    document.body.dataset.state = "idle";
    $("progress").classList.remove("busy");
    $("status").textContent = this.announced = text;
  }

  showResult(message) {
    drawBytes($("after"), message);
    this.shown = this.current;
    $("frame").classList.remove("waiting");
    $("mask").classList.add("seen");
    $("download").disabled = false;
    document.body.dataset.seconds = JSON.stringify(message.seconds);
    const total = message.seconds.style + message.seconds.image;
    this.setIdle(`${message.width} × ${message.height} pixels, ${total.toFixed(1)} seconds`);
  }

  fail(text) {
    this.setIdle("");
    showError($("error"), text);
  }
}

/** Replace the children; the focus stays at its position. */
function replaceTiles(parent, tiles) {
  const focused = [...parent.children].indexOf(document.activeElement);
  parent.replaceChildren(...tiles);
  if (focused >= 0) tiles[Math.min(focused, tiles.length - 1)]?.focus();
}
