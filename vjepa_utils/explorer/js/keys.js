// Every action has a key. One table: what help shows, and what a key does. `act` is given the
// explorer, which of `keys` it was, and whether Shift was held.

const overlayBy = (ex, change) =>
  ex.change({ overlay: Math.round(100 * share(ex.state.overlay + change, 0, 1)) / 100 });


export const KEYS = [
  { shown: "Space", keys: [" "], text: "play or stop", act: (ex) => ex.play(!ex.playing) },
  { shown: ", .", keys: [",", ".", "<", ">"], text: "step back, step on",
    act: (ex, i) => ex.setStep(ex.state.step + [-1, 1][i % 2]) },
  { shown: "Home End", keys: ["Home", "End"], text: "the first step, the last",
    act: (ex, i) => ex.setStep([0, ex.steps - 1][i]) },
  { shown: "← ↑ → ↓", keys: ["ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown"],
    text: "move the pointer from patch to patch",
    act: (ex, i) => movePointer(ex, ...[[0, -1], [-1, 0], [0, 1], [1, 0]][i]) },
  { keys: ["Enter"], text: "choose the patch under the pointer (Shift: pin another one)",
    act: (ex, _, shift) => useTool(ex, shift) },
  { keys: ["p"], text: "pin another patch, in a colour of its own",
    act: (ex) => { if (inPicture(ex)) ex.choose(ex.pointer, true); } },
  { keys: ["n"], text: "the next pin, or in Segment the next thing, becomes the chosen one",
    act(ex) {
      const { mode, thing, pins, active } = ex.state;
      if (mode === "segment") ex.change({ thing: (thing + 1) % countThings(ex.state) });
      else if (pins.length) ex.change({ active: (active + 1) % pins.length });
    } },
  { keys: ["x"], text: "remove the chosen pin, or in Segment the last click; Shift+X: all",
    act(ex, _, shift) {
      const { mode, pins, active } = ex.state, segments = mode === "segment";
      if (shift) ex.change(segments ? { clicks: [], thing: 0 } : { pins: [], active: 0 });
      else if (segments) removeClick(ex);
      else if (pins.length) ex.removePin(active);
    } },
  { shown: "[ ]", keys: ["[", "]"], text: "segment: take more, or less, for the thing",
    act(ex, i) {
      const cut = Math.round(20 * (ex.state.cut + [-0.05, 0.05][i])) / 20;
      ex.change({ cut: Math.min(1, Math.max(-1, cut)) });
    } },
  { get shown() { return this.keys.join(" "); },
    get keys() { return Object.keys(MODES).map((_, i) => String(i + 1)); },
    get text() { return Object.values(MODES).map((mode) => mode.name.toLowerCase()).join(", "); },
    act: (ex, i) => ex.setMode(Object.keys(MODES)[i]) },
  { shown: "R G B", keys: ["r", "g", "b"],
    text: "next component as red, green or blue (Shift: the one before)",
    act: nextComponent },
  { shown: "+ −", keys: ["+", "−", "=", "-"], text: "stronger or weaker overlay",
    act: (ex, i) => overlayBy(ex, [0.1, -0.1][i % 2]) },
  ...Object.entries(FLAGS).map(([name, flag]) => ({ keys: [flag.key], text: flag.help,
    act: (ex) => ex.change({ [name]: !ex.state[name] }) })),
  { keys: ["y"], text: "pixels: from half as many components (Shift: twice)",
    act(ex, _, shift) {
      const shown = shift ? 2 * ex.state.shown : Math.floor(ex.state.shown / 2);
      ex.change({ shown: Math.min(64, Math.max(1, shown)) });
    } },
  { keys: ["w"], text: "pixels: pull the next component (Shift: the one before)",
    act(ex, _, shift) {
      const [component, by] = ex.state.pull, most = ex.pickable;
      ex.change({ pull: [(component + (shift ? most - 1 : 1)) % most, by] });
    } },
  { shown: "; '", keys: [";", "'"], text: "pixels: pull the component down, or up, at the patch",
    act(ex, i) {
      const [component, by] = ex.state.pull, to = Math.round(20 * (by + [-0.05, 0.05][i])) / 20;
      ex.change({ pull: [component, Math.min(1, Math.max(-1, to))] });
    } },
  { keys: ["s"], text: "brush: Enter, arrows, Enter selects a region of the picture",
    act: (ex) => ex.setTool(ex.tool === "select" ? "point" : "select") },
  { shown: "Tab to the scatter", keys: [],
    text: "Enter opens a brush, arrows move it, Shift+arrows size it" },
  { keys: ["v"], text: "next encoder or layer in the scatter",
    act: (ex) => ex.change({ view: (ex.state.view + 1) % ex.views.length, brush: null }) },
  { keys: ["k"], text: "next mask",
    act(ex) {
      const many = ex.predictions.length;
      if (many) ex.change({ mask: (ex.state.mask + 1) % many });
    } },
  { keys: ["m"], text: "hide patches (with a kernel): Enter hides or shows one",
    act(ex) {
      if (TOOLS.hide.offered(ex)) ex.setTool(ex.tool === "hide" ? "point" : "hide");
    } },
  { keys: ["j"], text: "move a patch (with a kernel): Enter, arrows, Enter drags it",
    act(ex) {
      if (TOOLS.move.offered(ex)) ex.setTool(ex.tool === "move" ? "point" : "move");
    } },
  { shown: "Esc", keys: ["Escape"], text: "clear the selection, then the pointer", act: escape },
  { keys: ["c"], text: "copy the link to this view",
    act: (ex) => (ex.address && ex.address.shared ? ex.copyLink() : null) },
  { keys: ["i"], text: "save the pictures with their marks and scales as PNG", act: savePicture },
  { keys: ["d"], text: "light or dark", act: (ex) => ex.setTheme() },
  { keys: ["?"], text: "this list", act: (ex) => ex.toggleHelp() },
];

const shownKeys = ({ shown, keys }) => shown || keys[0].toUpperCase();

/** Whether the pointer is in a picture, and not in the strip or the scatter. */
const inPicture = (ex) => ex.pointer && ex.pointer.step === undefined;

function movePointer(ex, down, across) {
  const { clip, rows, columns } = ex, middle = { x: clip.width / 2, y: clip.height / 2 };
  const from = inPicture(ex) ? ex.pointer : ex.state.pins[ex.state.active] || middle;
  const [row, column] = cellAt(ex, from);
  const to = [Math.min(rows - 1, Math.max(0, row + down)),
    Math.min(columns - 1, Math.max(0, column + across))];
  ex.point(centreOf(...to, clip, rows, columns, ex.offset));
  if (ex.held) TOOLS[ex.tool].move(ex, ex.held, ex.pointer);
}

/** Enter: what a click does, or for a brush the beginning and the end of a drag. */
function useTool(ex, shift) {
  const tool = TOOLS[ex.tool];
  if (!inPicture(ex)) return;
  if (tool.click) tool.click(ex, ex.pointer, { shiftKey: shift });
  else {
    const drag = ex.held || tool.start(ex, ex.pointer), begins = tool.holds && !ex.held;
    tool.move(ex, drag, ex.pointer);
    if (tool.end && !begins) tool.end(ex, drag);
    ex.held = begins ? drag : null;
  }
}

function nextComponent(ex, channel, shift) {
  const most = ex.pickable, rgb = [...ex.state.rgb];
  rgb[channel] = (rgb[channel] + (shift ? most - 1 : 1)) % most;
  ex.change({ rgb, mode: ex.state.mode === "prediction" ? "prediction" : "colours" });
}

function escape(ex) {
  if (!ex.help.hidden) ex.toggleHelp();
  else if (ex.state.brush || ex.held) {
    ex.held = null;
    ex.change({ brush: null });
  } else {
    ex.point(null);
    ex.setTool("point");
  }
}

/** Whether an element takes a key for itself. */
function takes({ tagName, type }, key) {
  if (tagName === "BUTTON") return [" ", "Enter"].includes(key);
  if (tagName === "INPUT" && type === "checkbox") return key === " ";
  if (tagName === "INPUT" && type === "range") return /Arrow|Home|End|Page/.test(key);
  return ["INPUT", "SELECT", "TEXTAREA"].includes(tagName);
}

function onKey(ex, event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return undefined;
  if (takes(event.target, event.key)) return undefined;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const pressed = KEYS.find(({ keys }) => keys.includes(key));
  if (!pressed) return undefined;
  event.preventDefault();
  event.stopPropagation();
  return pressed.act(ex, pressed.keys.indexOf(key), event.shiftKey);
}
