// The page: the list of images, the layers of one of them, and their controls.

import { heatValue, paintHeat, paintImage, paintLabels } from "./paint.js";
import { TILE, Tiles, ask } from "./tiles.js";
import { Viewport } from "./viewport.js";

const LABELS = { prediction: [230, 159, 0], truth: [86, 180, 233] }; // colours
const HEATS = { probability: 1, uncertainty: 0.25 }; // the values of the brightest colour
const KEYS = { i: "image", p: "prediction", t: "truth", b: "probability", u: "uncertainty" };
const ORDER = ["image", ...Object.keys(HEATS), ...Object.keys(LABELS)]; // from the bottom
const FIRST = ["id", "class", "area", "confidence"]; // measurements that come first
const STEPS = 1000; // of the sliders of black and white
const POLL = 700; // milliseconds
const NOT_ANNOTATED = 0xffffffff;

const $ = (id) => document.getElementById(id);
const canvas = $("canvas");
const tiles = new Tiles(() => redraw(), (error) => showMessage(error.message));
const viewport = new Viewport(canvas, {
  onChange: () => redraw(),
  onPoint: (pixel) => pointAt(pixel),
  onTap: (pixel) => choose(pixel),
});

let list = { names: [], order: [], values: [], problems: [] };
let item = null; // what the server says of the image, with its index
let windows = []; // black and white of each channel
let objects = {}; // measurements of the section, by number
let page = 0;
let chosen = 0; // number of the cell whose measurements are kept
let pictures = new WeakMap(); // canvases of tiles, by tile, with the style they have

// --- the list -------------------------------------------------------------------------

async function loadList() {
  list = await ask("list");
  document.title = `${list.title} - unetjax view`;
  showList();
  if (!list.done) setTimeout(() => loadList().catch(stopped), POLL);
}

function stopped() {
  showMessage("The program that serves this page has ended; start  unetjax view  again.");
}

function number(value) {
  if (typeof value !== "number") return String(value ?? "");
  return Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(4)));
}

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function showList() {
  const progress = list.done ? "" : " (computing ...)";
  $("order").textContent = (list.measure ? `Lowest ${list.measure} first` : "By name") + progress;
  if (list.measure === "uncertainty") $("order").textContent = `Highest uncertainty first${progress}`;
  const entries = $("list");
  const known = new Map([...entries.children].map((each) => [Number(each.dataset.index), each]));
  entries.replaceChildren(...list.order.map((index) => {
    const entry = known.get(index) ?? makeEntry(index);
    const value = list.values[index];
    entry.querySelector(".value").textContent = value === null ? "" : value.toPrecision(3);
    entry.querySelector(".problem").textContent = list.problems[index];
    return entry;
  }));
  showPosition();
}

function makeEntry(index) {
  const picture = make("img", { src: `thumbnail/${index}`, loading: "lazy", alt: "" });
  picture.addEventListener("error", () => picture.replaceWith(make("span", { className: "none" })));
  const name = list.names[index];
  const button = make(
    "button", { title: name }, picture,
    make("span", { className: "title", textContent: name }),
    make("span", { className: "value" }),
    make("span", { className: "problem" }),
  );
  button.addEventListener("click", () => { show(index); openPanel(null); });
  const entry = make("li", {}, button);
  entry.dataset.index = index;
  return entry;
}

function showPosition() {
  if (item === null) return;
  const place = list.order.indexOf(item.index);
  const value = list.values[item.index];
  const score = value === null || value === undefined ? [] : [`${list.measure} ${value.toPrecision(3)}`];
  const size = item.width ? [`${number(item.width)} x ${number(item.height)} pixels`] : [];
  $("about").textContent = [`${place + 1} of ${list.order.length}`, ...score, ...size].join(" · ");
  for (const entry of $("list").children) {
    const button = entry.firstChild;
    const isCurrent = Number(entry.dataset.index) === item.index;
    if (isCurrent) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
}

function step(by) {
  const place = list.order.indexOf(item?.index ?? list.order[0]) + by;
  if (place < 0 || place >= list.order.length) return;
  show(list.order[place]);
  $("list").children[place].scrollIntoView({ block: "nearest" });
}

// --- one image ------------------------------------------------------------------------

async function show(index) {
  item = { index, layers: {} };
  $("name").textContent = list.names[index];
  history.replaceState(null, "", `#${index}`);
  showPosition();
  showMessage("");
  $("readout").textContent = "";
  let described;
  const waiting = setTimeout(() => { $("readout").textContent = "Reading the image ..."; }, 300);
  try {
    described = await ask(`item/${index}`);
  } catch (error) {
    if (item.index === index) {
      redraw();
      showMessage(error instanceof TypeError ? "" : error.message);
      if (error instanceof TypeError) stopped();
    }
    return;
  } finally {
    clearTimeout(waiting);
  }
  $("readout").textContent = "";
  if (item.index !== index) return; // another one was chosen meanwhile
  item = { index, ...described };
  showPosition();
  const ranges = item.layers.image?.ranges ?? [];
  if (!$("keep").checked || windows.length !== ranges.length) setAuto();
  for (const name of ORDER) $(`layer-${name}`).hidden = !(name in item.layers);
  fillChannels(ranges.length);
  fillClasses(item.layers.probability?.channels ?? 1);
  $("sections").hidden = item.pages < 2;
  $("page").max = item.pages - 1;
  viewport.setSize(item.width, item.height);
  showContrast();
  await showPage(0);
}

async function showPage(number) {
  page = Math.min(Math.max(number, 0), item.pages - 1);
  $("page").value = page;
  $("page-number").textContent = `${page + 1} of ${item.pages}`;
  objects = {};
  choose(null);
  const [index, shown] = [item.index, page];
  const found = await ask(`objects/${index}/${page}`).catch((error) => showMessage(error.message));
  if (found && item.index === index && page === shown) objects = found;
}

function showMessage(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

// --- drawing --------------------------------------------------------------------------

let isScheduled = false;

function redraw() {
  if (isScheduled) return;
  isScheduled = true;
  requestAnimationFrame(() => {
    isScheduled = false;
    draw();
  });
}

function level() {
  const wanted = Math.floor(Math.log2(1 / viewport.scale) + 0.01);
  return Math.min(Math.max(wanted, 0), item.levels - 1);
}

function draw() {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!item?.width) return;
  tiles.begin();
  for (const name of ORDER) {
    if (!(name in item.layers) || !$(`${name}-shown`).checked) continue;
    context.globalAlpha = name === "image" ? 1 : $(`${name}-opacity`).value / 100;
    drawLayer(context, name);
  }
  context.globalAlpha = 1;
  tiles.load();
}

function drawLayer(context, name) {
  const at = level();
  const side = TILE * 2 ** at; // of a tile, in pixels of the image
  const { scale, x, y } = viewport;
  context.imageSmoothingEnabled = !(name in LABELS) && scale * 2 ** at < 1;
  context.imageSmoothingQuality = "high";
  const first = Math.max(0, Math.floor(x / side));
  const last = Math.min(Math.ceil(item.width / side), Math.ceil((x + canvas.width / scale) / side));
  const top = Math.max(0, Math.floor(y / side));
  const bottom = Math.min(Math.ceil(item.height / side), Math.ceil((y + canvas.height / scale) / side));
  const whole = tiles.get(item, name, page, item.levels - 1, 0, 0);
  for (let row = top; row < bottom; row++) {
    for (let column = first; column < last; column++) {
      const tile = tiles.get(item, name, page, at, row, column);
      const area = {
        left: column * side, right: Math.min((column + 1) * side, item.width),
        top: row * side, bottom: Math.min((row + 1) * side, item.height),
      };
      if (tile) place(context, paint(name, tile), area, 2 ** at, column * side, row * side);
      else if (whole) place(context, paint(name, whole), area, 2 ** (item.levels - 1), 0, 0);
    }
  }
}

// Draws an area of the image from a picture whose pixels have a size of `step` and whose
// corner is at `left`, `top`. Edges are whole pixels of the screen, without seams.
function place(context, picture, area, step, left, top) {
  const { scale, x, y } = viewport;
  const [x0, x1] = [area.left, area.right].map((each) => Math.round((each - x) * scale));
  const [y0, y1] = [area.top, area.bottom].map((each) => Math.round((each - y) * scale));
  context.drawImage(
    picture,
    (area.left - left) / step, (area.top - top) / step,
    (area.right - area.left) / step, (area.bottom - area.top) / step,
    x0, y0, x1 - x0, y1 - y0,
  );
}

// Returns the picture of a tile, painted again only when its style changes.
function paint(name, tile) {
  const style = styleOf(name);
  const text = JSON.stringify(style);
  const known = pictures.get(tile);
  if (known?.text === text) return known.picture;
  const data = name === "image" ? paintImage(tile, style.windows, style.channel)
    : name in LABELS ? paintLabels(tile, style)
      : paintHeat(tile, style.channel, style.largest);
  const picture = known?.picture ?? document.createElement("canvas");
  [picture.width, picture.height] = [data.width, data.height];
  picture.getContext("2d").putImageData(data, 0, 0);
  pictures.set(tile, { picture, text });
  return picture;
}

function styleOf(name) {
  if (name === "image") return { windows, channel: Number($("channel").value) };
  if (name in HEATS) {
    const channel = name === "probability" ? Number($("class").value) : -1;
    return { largest: HEATS[name], channel };
  }
  return {
    mode: $(`${name}-mode`).value, colour: LABELS[name],
    chosen: name === "prediction" ? chosen : 0,
  };
}

// --- contrast -------------------------------------------------------------------------

// Returns the numbers of the channels that the sliders change.
function edited() {
  const channel = Number($("channel").value);
  return channel < 0 ? windows.map((_, c) => c) : [channel];
}

function setAuto(isFull = false) {
  windows = (item.layers.image?.ranges ?? []).map(([low, black, white, high]) => (
    isFull ? [low, high] : [black, white]));
}

function showContrast() {
  if (!windows.length) return;
  const [c] = edited();
  const [low, , , high] = item.layers.image.ranges[c];
  ["black", "white"].forEach((name, end) => {
    const value = windows[c][end];
    $(name).value = Math.round((STEPS * (value - low)) / (high - low || 1));
    $(`${name}-value`).textContent = number(high - low > 20 ? Math.round(value) : value);
  });
  redraw();
}

function changeContrast() {
  const [black, white] = [$("black"), $("white")].map((each) => Number(each.value) / STEPS);
  for (const c of edited()) {
    const [low, , , high] = item.layers.image.ranges[c];
    windows[c] = [low + black * (high - low), low + white * (high - low)];
  }
  showContrast();
}

function fillOptions(select, names) {
  const before = select.value;
  select.replaceChildren(...names.map(([value, textContent]) => make("option", { value, textContent })));
  if (names.some(([value]) => String(value) === before)) select.value = before;
}

function fillChannels(count) {
  $("channels").hidden = count < 2;
  const each = Array.from({ length: count }, (_, c) => [c, String(c)]);
  fillOptions($("channel"), [[-1, "all"], ...each]);
}

function fillClasses(count) {
  $("classes").hidden = count < 3;
  const each = Array.from({ length: count }, (_, k) => [k, k === 0 ? "background" : `class ${k}`]);
  fillOptions($("class"), [[-1, "all but background"], ...each]);
}

// --- values under the pointer ---------------------------------------------------------

// Returns the value of a layer at a pixel of the image, as far as it is loaded.
function valueAt(name, [x, y]) {
  if (!(name in item.layers)) return undefined;
  const at = level();
  const [i, j] = [Math.floor(x / 2 ** at), Math.floor(y / 2 ** at)];
  const [column, row] = [Math.floor(i / TILE), Math.floor(j / TILE)];
  const tile = tiles.get(item, name, page, at, row, column);
  if (!tile) return undefined;
  const margin = name in LABELS ? 1 : 0;
  const k = (j - row * TILE + margin) * tile.width + i - column * TILE + margin;
  if (name in LABELS) return tile.values[k];
  if (name in HEATS) return heatValue(tile, k, styleOf(name).channel);
  return [...tile.values.slice(k * tile.channels, (k + 1) * tile.channels)];
}

function nameOf(value) {
  if (value === 0) return "background";
  if (value === NOT_ANNOTATED) return "not annotated";
  if (item.kind === "cells") return `cell ${value}`;
  return value === 255 ? "foreground" : `class ${value}`;
}

function pointAt(pixel) {
  if (!item?.width) return;
  if (!pixel) {
    $("readout").textContent = "";
    showCell(chosen);
    return;
  }
  const image = valueAt("image", pixel);
  const texts = [`x ${pixel[0]}, y ${pixel[1]}`];
  if (image) texts.push(`grey ${image.map(number).join(", ")}`);
  for (const name of ["prediction", "truth"]) {
    const value = valueAt(name, pixel);
    if (value === undefined) continue;
    const row = name === "prediction" ? objects[value] ?? {} : {};
    const measured = ["area", "confidence"].filter((each) => each in row)
      .map((each) => `, ${each} ${number(row[each])}`);
    texts.push(`${name} ${nameOf(value)}${measured.join("")}`);
  }
  for (const name of Object.keys(HEATS)) {
    const value = valueAt(name, pixel);
    if (value !== undefined) texts.push(`${name} ${value.toPrecision(3)}`);
  }
  $("readout").textContent = texts.join(" · ");
  showCell(chosen || valueAt("prediction", pixel) || 0);
}

function choose(pixel) {
  const found = pixel && item?.width ? valueAt("prediction", pixel) ?? 0 : 0;
  chosen = found === chosen ? 0 : found;
  if (pixel) pointAt(pixel);
  else showCell(chosen);
  redraw();
}

function showCell(value) {
  const row = value ? objects[value] : undefined;
  $("cell-hint").hidden = Boolean(value);
  const title = value ? nameOf(value) + (chosen ? " (kept)" : "") : "measurements";
  $("cell-title").textContent = title[0].toUpperCase() + title.slice(1);
  const columns = row ? Object.keys(row) : [];
  const order = [...FIRST.filter((each) => columns.includes(each)), ...columns];
  const shown = [...new Set(order)].filter((each) => each !== "id" && each !== "page");
  $("cell-values").replaceChildren(...shown.flatMap((name) => [
    make("dt", { textContent: name.replaceAll("_", " ") }),
    make("dd", { textContent: number(row[name]) }),
  ]));
}

// --- controls -------------------------------------------------------------------------

function openPanel(id) {
  for (const [panel, button] of [["images", "show-images"], ["controls", "show-controls"]]) {
    const isOpen = panel === id && !$(panel).classList.contains("open");
    $(panel).classList.toggle("open", isOpen);
    $(button).setAttribute("aria-expanded", String(isOpen));
  }
}

function toggle(name) {
  if ($(`layer-${name}`).hidden) return;
  $(`${name}-shown`).checked = !$(`${name}-shown`).checked;
  redraw();
}

function toggleMode() {
  setMode("prediction", $("prediction-mode").value === "filled" ? "outlines" : "filled");
}

function setMode(name, mode) {
  $(`${name}-mode`).value = mode;
  if (mode === "filled" && $(`${name}-opacity`).value === "100") $(`${name}-opacity`).value = 45;
  if (mode === "outlines") $(`${name}-opacity`).value = 100;
  redraw();
}

const actions = {
  ArrowLeft: () => step(-1), ArrowRight: () => step(1),
  "+": () => viewport.zoom(1.5), "=": () => viewport.zoom(1.5), "-": () => viewport.zoom(1 / 1.5),
  0: () => viewport.fit(), 1: () => viewport.actual(),
  o: toggleMode, a: () => { setAuto(); showContrast(); },
  "[": () => item.pages > 1 && showPage(page - 1), "]": () => item.pages > 1 && showPage(page + 1),
  Escape: () => openPanel(null),
  ...Object.fromEntries(Object.entries(KEYS).map(([key, name]) => [key, () => toggle(name)])),
};

document.addEventListener("keydown", (event) => {
  const isField = event.target.matches("select, input[type=range]");
  const isArrow = event.key.startsWith("Arrow");
  if (event.ctrlKey || event.metaKey || event.altKey || (isField && isArrow) || !item) return;
  const action = actions[event.key] ?? actions[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
});

function listen(id, event, action) {
  $(id).addEventListener(event, action);
}

listen("previous", "click", () => step(-1));
listen("next", "click", () => step(1));
listen("zoom-in", "click", () => viewport.zoom(1.5));
listen("zoom-out", "click", () => viewport.zoom(1 / 1.5));
listen("zoom-fit", "click", () => viewport.fit());
listen("zoom-actual", "click", () => viewport.actual());
listen("show-images", "click", () => openPanel("images"));
listen("show-controls", "click", () => openPanel("controls"));
listen("page", "input", () => showPage(Number($("page").value)));
listen("channel", "change", showContrast);
for (const name of ["black", "white"]) listen(name, "input", changeContrast);
listen("auto", "click", actions.a);
listen("full", "click", () => { setAuto(true); showContrast(); });
listen("class", "change", () => redraw());
for (const name of ORDER) {
  listen(`${name}-shown`, "change", () => redraw());
  if (name !== "image") listen(`${name}-opacity`, "input", () => redraw());
}
for (const name of Object.keys(LABELS)) {
  listen(`${name}-mode`, "change", () => setMode(name, $(`${name}-mode`).value));
}

try {
  await loadList();
  const asked = Number(location.hash.slice(1) || NaN);
  await show(asked in list.names ? asked : list.order[0]);
} catch {
  stopped();
}
