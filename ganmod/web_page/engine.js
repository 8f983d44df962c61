// The connection to the worker that computes.

export class Engine {
  /** sizes: bytes of large files by path, for the progress of loading. */
  constructor(sizes) {
    this.worker = new Worker("worker/main.js", { type: "module", name: "ganmod" });
    this.waiting = new Map(); // id of a picture: {resolve, reject}
    this.listeners = {};
    this.runs = 0;
    this.ids = 0;
    this.worker.postMessage({ type: "sizes", sizes });
    this.worker.onmessage = ({ data }) => this.receive(data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      const message =
        "The page could not start: it needs a current browser with WebAssembly and module workers. Update the browser, or reload the page.";
      for (const kind of Object.keys(this.listeners)) this.listeners[kind]({ type: "failed", message });
    };
  }

  /** Hear of the progress, results and errors of a kind of run. */
  listen(kind, listener) {
    this.listeners[kind] = listener;
  }

  receive(message) {
    if (message.type === "picture") {
      const { resolve, reject } = this.waiting.get(message.id);
      this.waiting.delete(message.id);
      if (message.error) reject(new Error(message.error));
      else resolve(message.id);
    } else {
      this.listeners[message.kind]?.(message);
    }
  }

  /** Hand over a file; resolves to its id once it has been read, and rejects with a message.
   *  params: path of its parameters, for a built-in style. */
  addPicture(blob, name, params = null) {
    const id = ++this.ids;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ type: "picture", id, blob, name, params });
    });
  }

  /** Start a run, which replaces an older one of its kind -> its number. */
  start(kind, choice) {
    const run = ++this.runs;
    this.worker.postMessage({ type: kind, run, ...choice });
    return run;
  }
}
