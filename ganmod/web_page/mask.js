// The brush that paints where style A applies. The canvas holds the mask as its opacity.

const STEP = 0.02; // of the short side, per press of an arrow key

export class MaskPainter {
  /** canvas: over the picture. cursor: a circle that follows the brush. changed(): after each stroke. */
  constructor(canvas, cursor, changed) {
    this.canvas = canvas;
    this.cursor = cursor;
    this.changed = changed;
    this.erasing = false;
    this.size = 0.14; // of the short side
    this.at = null; // of the keyboard's brush, in pixels
    this.last = null;
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", () => this.end());
    canvas.addEventListener("pointercancel", () => this.end());
    canvas.addEventListener("pointerleave", () => (cursor.hidden = true));
    canvas.addEventListener("blur", () => (cursor.hidden = true));
    canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && this.showKeyboardBrush());
    canvas.addEventListener("keydown", (event) => this.press(event));
  }

  get context() {
    return this.canvas.getContext("2d", { willReadFrequently: true });
  }

  get radius() {
    return (this.size * Math.min(this.canvas.width, this.canvas.height)) / 2;
  }

  /** Fit the mask to a photo; an existing one is scaled. The first is a circle in the middle. */
  resize(width, height) {
    const { canvas } = this;
    if (canvas.width === width && canvas.height === height && this.ready) return;
    const copy = new OffscreenCanvas(canvas.width, canvas.height);
    copy.getContext("2d").drawImage(canvas, 0, 0);
    canvas.width = width;
    canvas.height = height;
    this.at = null;
    if (this.ready) this.context.drawImage(copy, 0, 0, width, height);
    else this.fill("circle");
    this.ready = true;
  }

  color() {
    return getComputedStyle(document.documentElement).getPropertyValue("--accent").trim();
  }

  /** A ready-made mask, or a change of the present one. */
  fill(kind) {
    const { context, canvas } = this;
    const { width, height } = canvas;
    context.globalCompositeOperation = kind === "invert" ? "xor" : "source-over";
    if (kind !== "invert") context.clearRect(0, 0, width, height);
    context.fillStyle = this.color();
    if (kind === "circle") {
      context.beginPath();
      context.arc(width / 2, height / 2, Math.min(width, height) * 0.36, 0, 2 * Math.PI);
      context.fill();
    } else if (kind !== "clear") {
      context.fillRect(0, 0, kind === "left" ? width / 2 : width, kind === "top" ? height / 2 : height);
    }
  }

  /** Opacity of every pixel: {width, height, data}, data a Uint8Array [height * width]. */
  bytes() {
    const { width, height } = this.canvas;
    const pixels = this.context.getImageData(0, 0, width, height).data;
    const data = new Uint8Array(width * height);
    for (let i = 0; i < data.length; i++) data[i] = pixels[4 * i + 3];
    return { width, height, data };
  }

  position(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  stroke(from, to) {
    const { context } = this;
    context.globalCompositeOperation = this.erasing ? "destination-out" : "source-over";
    context.strokeStyle = this.color();
    context.lineCap = "round";
    context.lineWidth = 2 * this.radius;
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(to[0] + 0.01, to[1]); // a line without length would be invisible
    context.stroke();
  }

  begin(event) {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.canvas.classList.add("painting");
    this.last = this.position(event);
    this.stroke(this.last, this.last);
  }

  move(event) {
    const position = this.position(event);
    this.showCursor(position);
    if (!this.last) return;
    this.stroke(this.last, position);
    this.last = position;
  }

  end() {
    if (!this.last) return;
    this.last = null;
    this.canvas.classList.remove("painting");
    this.changed();
  }

  showCursor([x, y]) {
    const scale = this.canvas.getBoundingClientRect().width / this.canvas.width;
    const side = `${2 * this.radius * scale}px`;
    Object.assign(this.cursor.style, { left: `${x * scale}px`, top: `${y * scale}px`, width: side, height: side });
    this.cursor.hidden = false;
  }

  showKeyboardBrush() {
    this.at ??= [this.canvas.width / 2, this.canvas.height / 2];
    this.showCursor(this.at);
  }

  press(event) {
    const step = STEP * Math.min(this.canvas.width, this.canvas.height) * (event.shiftKey ? 4 : 1);
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const move = moves[event.key];
    if (!move && event.key !== " ") return;
    event.preventDefault();
    this.showKeyboardBrush();
    if (move) {
      const sides = [this.canvas.width, this.canvas.height];
      this.at = this.at.map((value, i) => Math.min(Math.max(value + move[i], 0), sides[i]));
      this.showCursor(this.at);
    } else {
      this.stroke(this.at, this.at);
      this.changed();
    }
  }
}
