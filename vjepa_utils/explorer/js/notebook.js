// Where an explorer lives: a page, or a cell of a notebook.

/** The page: data beside the script, state in the address. */
export async function openPage(root, data) {
  const address = {
    shared: location.protocol !== "about:",  // in a frame of a notebook nobody else can open it
    read: () => location.hash,
    write(text) {
      try {
        history.replaceState(null, "", `#${text}`);
      } catch {
        location.hash = text;  // a page in a frame of its own origin
      }
    },
  };
  const page = JSON.parse(data), explorer = await explore(root, page, { address });
  window.addEventListener("hashchange", () => {
    if (location.hash.slice(1) === toAddress(explorer.state)) return;
    explorer.change(fromAddress(location.hash, page));
  });
  document.documentElement.dataset.ready = "1";
  window.explorer = explorer;
}

const PATIENCE = 15;  // seconds without a word from the kernel, until that is said

/** What an explorer asks its kernel; a kernel that is gone, or busy, is a sentence in `say`. */
function kernelOf(model, say) {
  const gone = "The kernel does not answer: run the cell again.";
  const reach = (send) => {
    try {
      send();
    } catch (error) {
      console.error(error);
      say(gone, true);
    }
  };
  const kernel = {
    predicts: false,
    set: (name, value) => reach(() => {
      model.set(name, value);
      model.save_changes();
    }),
    ask(message) {
      clearTimeout(kernel.waiting);
      kernel.waiting = setTimeout(() => say(
        `The kernel has not answered for ${PATIENCE} s: it is busy, or gone. If it is gone, run `
        + "the cell again.", true), 1000 * PATIENCE);
      reach(() => model.send(message));
    },
    answered: () => clearTimeout(kernel.waiting),
    lost: () => say(gone, true),
  };
  return kernel;
}

/** Hide the page that was stored in the cell, for a reader without a kernel. */
function hideStored(id) {
  for (const stored of document.querySelectorAll(`[id="${id}"]`)) {
    (stored.closest(".jp-OutputArea-child") || stored).style.display = "none";
  }
}

/** The notebook: anywidget calls this. Data comes when it is asked for. */
async function render({ model, el }) {
  let explorer = null, queue = Promise.resolve(), gone = false;
  const say = (text, keep) => explorer && explorer.say(text, keep), kernel = kernelOf(model, say);

  async function show(page) {
    explorer = await explore(el, page, { kernel, state: { step: model.get("step") } });
    if (model.get("point")) explorer.taken("point", model.get("point"));
    explorer.taken("mask", model.get("mask"));
    hideStored(model.get("_fallback"));
    el.dataset.ready = "1";
  }

  async function hear({ kind, page, predicts, prediction, pixels, edit, text }) {
    kernel.answered();
    if (gone) return;
    if (kind === "page") {
      kernel.predicts = predicts;
      await show(JSON.parse(page));
    }
    if (kind === "say") say(text, true);
    if (kind === "edit") explorer.forecast(await decodeEdit(JSON.parse(edit)));
    if (kind === "pixels") explorer.recovered(await decodeRecovered(JSON.parse(pixels)));
    if (kind === "prediction") explorer.predicted(await decodePrediction(JSON.parse(prediction)));
  }

  const failed = (error) => {
    console.error(error);
    if (explorer) say(`Something went wrong: ${error.message}.`, true);
    else el.textContent = `The explorer cannot be drawn: ${error.message}.`;
  };
  const listeners = {
    "msg:custom": (message) => {
      queue = queue.then(() => hear(message)).catch(failed);
    },
    "comm:close": kernel.lost,
    ...Object.fromEntries(["point", "step", "mask"].map((name) =>
      [`change:${name}`, () => explorer && explorer.taken(name, model.get(name))])),
  };
  Object.entries(listeners).forEach(([name, listener]) => model.on(name, listener));
  kernel.ask({ ask: "page" });
  return () => {
    gone = true;
    kernel.answered();
    if (explorer) explorer.destroy();
    Object.entries(listeners).forEach(([name, listener]) => model.off(name, listener));
  };
}

export default { render };
