// Elements of the page, and words in them.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(
  ["svg", "g", "path", "circle", "ellipse", "rect", "line", "text", "polyline"],
);

/** Run what a reader set off; what goes wrong is said in the explorer that `element` is in. */
function attempt(element, action) {
  const failed = (error) => {
    console.error(error);
    element.dispatchEvent(new CustomEvent("explorerfailed", { detail: error, bubbles: true }));
  };
  try {
    const done = action();
    if (done instanceof Promise) done.catch(failed);
  } catch (error) {
    failed(error);
  }
}

/** Listen to an event of an element, or of the window, on behalf of an explorer's element. */
const on = (target, name, handler, element = target) => {
  const listener = (event) => attempt(element, () => handler(event));
  target.addEventListener(name, listener);
  return () => target.removeEventListener(name, listener);
};

/** An element with attributes, listeners (onclick: …) and children; text stays text. */
function h(tag, attributes = {}, ...children) {
  const element = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) on(element, name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.filter((child) => child || child === ""));
  return element;
}

const button = (text, title, onclick, more = {}) =>
  h("button", { type: "button", title, onclick, ...more }, text);

const label = (text) => h("span", { class: "label" }, text);
const group = (...children) => h("span", { class: "group" }, ...children);

/** Buttons of which one is pressed, and only some are offered; names: {value: text}. */
function segmented(title, names, chosen, pick, offered = () => true) {
  const buttons = Object.entries(names).map(([value, text]) =>
    button(text, "", () => pick(value), { "data-value": value }));
  const box = h("div", { class: "segmented", role: "group", "aria-label": title }, ...buttons);
  box.update = () => buttons.forEach((one) => {
    one.setAttribute("aria-pressed", one.dataset.value === String(chosen()));
    one.hidden = !offered(one.dataset.value);
  });
  return box;
}

/** A list to choose a number from; texts() are its lines. */
function picker(title, texts, chosen, pick, more = {}) {
  const select = h("select", { "aria-label": title, title, ...more,
    onchange: () => pick(Number(select.value)) });
  select.update = () => {
    const lines = texts();
    if (select.length !== lines.length) {
      select.replaceChildren(...lines.map((text, value) => h("option", { value }, text)));
    }
    select.value = String(chosen());
  };
  return select;
}

function check(text, title, chosen, pick) {
  const input = h("input", { type: "checkbox", onchange: () => pick(input.checked) });
  const box = h("label", { class: "check", title }, input, text);
  box.update = () => { input.checked = chosen(); };
  return box;
}

/** Where in an element an event is: [x, y], each from 0 to below 1. */
function fraction(event) {
  const box = event.currentTarget.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
    .map((value) => Math.min(0.999999, Math.max(0, value)));
}

const fixed = (value, digits = 2) =>
  (Number.isFinite(value) ? value.toFixed(digits).replace("-", "−") : "–");
const percent = (value, digits = 0) => `${(100 * value).toFixed(digits)} %`;
const shortName = (name) => name.split("/").pop();
const framesOf = ([first, second]) =>
  (first === second ? `frame ${first}` : `frames ${first}+${second}`);
const viewName = (view) =>
  `${shortName(view.encoder)}${view.layer ? ` · block ${view.layer}` : ""}`;
