// Starts the page: tabs, and the engine that both share.

import { $, showError } from "./dom.js";
import { Engine } from "./engine.js";
import { GenerateTab } from "./generate.js";
import { StyliseTab } from "./stylise.js";

async function readJson(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path} could not be loaded (status ${response.status}): reload the page.`);
  return response.json();
}

function bindTabs(opened) {
  const tabs = [...document.querySelectorAll('[role="tab"]')];
  const select = (tab) => {
    for (const each of tabs) {
      each.setAttribute("aria-selected", each === tab);
      each.tabIndex = each === tab ? 0 : -1;
      $(each.getAttribute("aria-controls")).hidden = each !== tab;
    }
    opened(tab.id);
  };
  for (const [i, tab] of tabs.entries()) {
    $(tab.getAttribute("aria-controls")).setAttribute("role", "tabpanel");
    tab.addEventListener("click", () => select(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(i + step + tabs.length) % tabs.length];
      next.focus();
      select(next);
    });
  }
}

async function start() {
  const [config, pictures] = await Promise.all([readJson("built/page.json"), readJson("built/pictures.json")]);
  for (const entry of [...pictures.photos, ...pictures.styles]) {
    entry.file = `built/${entry.file}`;
    entry.thumbnail = `built/${entry.thumbnail}`;
  }
  const engine = new Engine(config.bytes);
  const stylise = new StyliseTab(engine, pictures);
  if (config.generator) {
    const manifest = await readJson("built/generator/generator.json");
    const generate = new GenerateTab(engine, manifest);
    $("tabs").hidden = false;
    bindTabs((id) => id === "tab-generate" && generate.open());
  }
  stylise.schedule(0);
}

// A file that misses a drop zone must not replace the page.
for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());

start().catch((error) => showError($("error"), error.message));
