import { fill, stroke } from "./brush.js";

const at = (id) => document.getElementById(id);
const UNDONE = 50; // drawings that can be taken back to

let about, cells, value, controller, pointer = null, last = null;
const before = [], after = [];

// Bytes as text and back

const encoded = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
const decoded = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

function say(text, error = false) {
  at("said").textContent = text;
  at("said").classList.toggle("error", error);
  at("said").setAttribute("role", error ? "alert" : "status");
}

// What a request of the server gives; what it refuses, and its silence, become a line on the page
async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("tenshot paint does not answer: is it still running?");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Error(told.error ?? `${response.status} ${response.statusText}`);
}

async function attempt(action) {
  try {
    await action();
  } catch (error) {
    if (error.name !== "AbortError") say(error.message, true);
  }
}

// The canvas

function show() {
  const canvas = at("canvas"), image = new ImageData(about.size, about.size);
  cells.forEach((cell, place) => image.data.set([...about.palette[cell], 255], 4 * place));
  canvas.getContext("2d").putImageData(image, 0, 0);
  at("undo").disabled = !before.length;
  at("redo").disabled = !after.length;
}

function keepForUndo() {
  before.push(cells.slice());
  if (before.length > UNDONE) before.shift();
  after.length = 0;
}

function replaced(by) {
  keepForUndo();
  cells = by;
  show();
}

function back(from, to) {
  if (!from.length) return;
  to.push(cells);
  cells = from.pop();
  show();
}

function place(event) {
  const box = at("canvas").getBoundingClientRect(), border = at("canvas").clientLeft;
  return [event.clientX - box.left, event.clientY - box.top].map((distance) =>
    Math.floor(((distance - border) * about.size) / (box.width - 2 * border)));
}

const inside = (spot) => spot.every((coordinate) => coordinate >= 0 && coordinate < about.size);
const tool = () => document.querySelector("input[name=tool]:checked").value;

function pressed(event) {
  if (event.button !== 0 || pointer !== null) return;
  event.preventDefault();
  const spot = place(event);
  keepForUndo();
  if (tool() === "fill") {
    if (inside(spot)) fill(cells, about.size, spot, value);
  } else {
    pointer = event.pointerId;
    at("canvas").setPointerCapture(pointer);
    stroke(cells, about.size, spot, spot, +at("size").value, value);
    last = spot;
  }
  show();
}

function moved(event) {
  if (event.pointerId !== pointer) return;
  for (const each of event.getCoalescedEvents?.() ?? [event]) {
    const spot = place(each);
    stroke(cells, about.size, last, spot, +at("size").value, value);
    last = spot;
  }
  show();
}

function released(event) {
  if (event.pointerId === pointer) pointer = last = null;
}

// The palette

function choose(id) {
  value = id;
  const input = document.querySelector(`#palette input[value="${id}"]`);
  if (input) input.checked = true;
}

function addClass({ id, name, colour }) {
  const label = document.createElement("label"), input = document.createElement("input");
  const patch = document.createElement("canvas"), text = document.createElement("span");
  Object.assign(input, { type: "radio", name: "class", value: id });
  input.addEventListener("change", () => choose(id));
  label.className = "swatch";
  text.textContent = name;
  patch.width = patch.height = 1;
  patch.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray([...colour, 255]), 1, 1), 0, 0);
  label.append(input, patch, text);
  at("palette").append(label);
}

function filtered() {
  const wanted = at("filter").value.toLowerCase();
  for (const swatch of at("palette").children) swatch.hidden = !swatch.textContent.toLowerCase().includes(wanted);
}

// Beginning with something

function began(told) {
  replaced(decoded(told.cells));
  if (about.kind === "mask") {
    for (const id of new Set(cells)) {
      if (!document.querySelector(`#palette input[value="${id}"]`)) {
        addClass({ id, name: id ? `class ${id - 1}` : "no class", colour: about.palette[id] });
      }
    }
  }
  say(told.note ?? "");
}

async function load() {
  const told = await (await ask(`example/${+at("example").value}`)).json();
  began(told);
  at("truth").src = `data:image/png;base64,${told.image}`;
  at("truth").hidden = false;
}

async function open(input, photo) {
  const [file] = input.files;
  if (!file) return;
  const path = `open?name=${encodeURIComponent(file.name)}${photo ? "&photo" : ""}`;
  try {
    began(await (await ask(path, {
      method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file,
    })).json());
    at("truth").hidden = true;
  } finally {
    input.value = ""; // so that the same file can be opened again
  }
}

// Samples

function figure(number) {
  const holder = document.createElement("figure"), caption = document.createElement("figcaption");
  const none = document.createElement("div"), text = document.createElement("span");
  none.className = "none";
  text.textContent = `number ${number}`;
  caption.append(text);
  holder.append(none, caption);
  holder.dataset.number = number;
  return holder;
}

function drawn(number, image, seed, finished) {
  const holder = document.querySelector(`#samples [data-number="${number}"]`);
  const shown = holder.querySelector("img") ?? document.createElement("img");
  shown.onload = () => shown.classList.toggle("small", shown.naturalWidth < 128);
  shown.src = `data:image/png;base64,${image}`;
  shown.alt = `sample ${number} of seed ${seed}`;
  shown.classList.toggle("estimate", !finished);
  holder.querySelector(".none")?.replaceWith(shown);
  if (!finished) return;
  holder.classList.add("finished");
  const save = document.createElement("a");
  Object.assign(save, { textContent: "Save", href: shown.src });
  save.download = `seed${seed}-${String(number).padStart(6, "0")}.png`;
  holder.querySelector("figcaption").append(save);
}

function wish() {
  const number = (id) => at(id).valueAsNumber;
  return {
    cells: encoded(cells), seed: number("seed"), first: number("first"), count: number("count"),
    method: at("method").value, steps: at("steps").value, scale: number("scale"),
  };
}

async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value: text } = await reader.read();
    if (done) return;
    const parts = (rest + text).split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}

async function draw() {
  controller?.abort();
  const mine = (controller = new AbortController()), asked = wish();
  const count = Math.min(asked.count, about.most);
  at("samples").replaceChildren(...Array.from({ length: count }, (_, place) => figure(asked.first + place)));
  Object.assign(at("progress"), { hidden: false, max: 1, value: 0 });
  at("stop").disabled = false;
  say("drawing");
  let finished = 0, ended = false;
  try {
    const response = await ask("draw", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(asked), signal: mine.signal,
    });
    for await (const told of lines(response)) {
      if (told.error) {
        ended = true;
        say(told.error, true);
      } else if (told.waiting) {
        say("another drawing is under way: waiting for its end");
      } else if (told.steps) {
        const batch = Math.min(about.together, count - finished);
        Object.assign(at("progress"), { max: count, value: finished + (batch * told.steps[0]) / told.steps[1] });
        say(`step ${told.steps[0]} of ${told.steps[1]}, ${finished} of ${count} samples`);
        told.images.forEach((image, place) => drawn(told.first + place, image, asked.seed, false));
      } else if ("number" in told) {
        drawn(told.number, told.image, asked.seed, true);
        finished += 1;
      } else if (told.end) {
        ended = true;
        if (finished === count) say(`${count} of ${count} samples`);
      }
    }
    if (!ended) throw new Error("tenshot paint ended in the middle of a drawing");
  } catch (error) {
    if (error.name === "AbortError" && controller === mine) say(`stopped after ${finished} samples`);
    throw error;
  } finally {
    if (controller === mine) {
      controller = undefined;
      at("stop").disabled = true;
      at("progress").hidden = true;
    }
  }
}

// The drawing as a PNG, made by the server: some browsers add noise to what a canvas gives back
async function keep() {
  const told = await (await ask("keep", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ cells: encoded(cells) }),
  })).json();
  const link = document.createElement("a");
  Object.assign(link, { href: `data:image/png;base64,${told.image}`, download: `${about.kind}.png` });
  link.click();
}

async function begin() {
  about = await (await ask("about")).json();
  at("about").textContent = `${about.method}, ${about.weights}, on ${about.device}`;
  at("about").title = about.checkpoint ?? "";
  at("canvas").width = at("canvas").height = about.size;
  cells = new Uint8Array(about.size ** 2).fill(about.ground);
  if (about.kind === "sketch") {
    about.classes = [
      { id: 1, name: "line", colour: about.palette[1] }, { id: 0, name: "eraser", colour: about.palette[0] },
    ];
  }
  about.classes.forEach(addClass);
  choose((about.classes.find(({ id }) => id !== about.ground) ?? about.classes[0]).id);
  at("filter").hidden = about.classes.length < 20;
  at("photos").hidden = about.kind !== "sketch";
  at("examples").hidden = !about.examples;
  at("example").max = about.examples - 1;
  Object.assign(at("size"), { max: Math.ceil(about.size / 4), value: Math.ceil(about.size / (about.kind === "sketch" ? 100 : 20)) });
  at("method").value = about.sampler.method;
  at("steps").value = about.sampler.steps;
  at("scale").value = about.scale;
  at("count").max = about.most;
  if (!about.guidable) {
    Object.assign(at("scale"), { disabled: true, title: "no conditions were hidden from this network in training" });
  }
  sized();
  show();
  at("wish").dataset.ready = "true";
}

function sized() {
  at("sizeNow").textContent = at("size").value;
}

function keyed(event) {
  if (!(event.ctrlKey || event.metaKey) || event.target.matches("input:not([type=radio], [type=range])")) return;
  const key = event.key.toLowerCase();
  if (key === "z" && !event.shiftKey) back(before, after);
  else if (key === "y" || (key === "z" && event.shiftKey)) back(after, before);
  else return;
  event.preventDefault();
}

at("canvas").addEventListener("pointerdown", pressed);
at("canvas").addEventListener("pointermove", moved);
for (const name of ["pointerup", "pointercancel"]) at("canvas").addEventListener(name, released);
at("size").addEventListener("input", sized);
at("undo").addEventListener("click", () => back(before, after));
at("redo").addEventListener("click", () => back(after, before));
at("clear").addEventListener("click", () => replaced(new Uint8Array(about.size ** 2).fill(about.ground)));
at("filter").addEventListener("input", filtered);
at("load").addEventListener("click", () => attempt(load));
at("file").addEventListener("change", () => attempt(() => open(at("file"), false)));
at("photo").addEventListener("change", () => attempt(() => open(at("photo"), true)));
at("keep").addEventListener("click", () => attempt(keep));
at("stop").addEventListener("click", () => controller?.abort());
at("wish").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(draw);
});
document.addEventListener("keydown", keyed);
attempt(begin);
