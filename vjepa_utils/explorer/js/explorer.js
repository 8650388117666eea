// An explorer in an element: what it holds, what a reader does to it, and the layout of its parts.

/** What is drawn and chosen, and the actions that change it; each change draws once a frame. */
class Explorer {
  /**
   * root: the element.  data: {page, views, pictures, predictions}, decoded.
   * kernel: null, or in a notebook {set(name, value), ask(message), predicts}.
   * address: null, or {read(), write(text), shared}.  state: to begin with.
   */
  constructor(root, data, { kernel, address, state }) {
    Object.assign(this, data, { kernel, address, state, clip: data.page.clip });
    [this.steps, this.rows, this.columns] = this.page.views[0].grid;
    this.offset = this.page.views[0].offset || 0;  // of a finer stride, in tokens
    this.perStep = this.rows * this.columns;
    this.pickable = Math.min(...this.views.map((view) => view.components), 24);
    this.state.step = Math.min(this.state.step, this.steps - 1);
    Object.assign(this, { tool: "point", pointer: null, pressed: null, drag: null, held: null });
    this.playing = null;
    // Patches that are hidden in a notebook, Uint8Array (count), in every step or in this one
    const brushSize = Math.min(this.rows, this.columns) > 20 ? 3 : 1;  // a finger's width
    Object.assign(this, { painted: null, through: true, brushSize });
    this.sent = { step: this.state.step, point: null, clicks: [] };  // what Python knows
    this.kept = { maps: memo(9 * this.views.length + 8), changes: memo(this.views.length),
      selection: memo(), scrolled: memo(), things: memo(2 * this.views.length),
      pixels: memo(2 * this.views.length), held: memo(this.views.length),
      thumbs: memo(this.views.length * this.steps), guides: memo(),
      guided: memo(2 * this.views.length) };
    layOut(this, root);
    this.setTool("point");
    this.drawNow();
  }

  // ---------------------------------------------------------------- actions

  /** Change parts of the state. */
  change(part) {
    this.state = { ...this.state, ...part };
    if (!offersTool(this, this.tool)) this.setTool("point");
    this.draw();
    this.tell();
    this.remember();
  }

  setMode(mode) {
    const none = { prediction: !this.predictions.length, edit: !this.edit }[mode];
    if (!modesOf(this).includes(mode) || none) {
      this.say(this.kernel ? "Hide some patches, or move one, first: the tools beside these."
        : "This page was made without masks, a decoder or a kernel.");
      return;
    }
    this.change({ mode });
    this.askForPixels();
  }

  setTool(tool) {
    const predicts = tool === "hide" || tool === "move";
    if (predicts && !this.kernel.predicts) {
      this.say(this.offset ? "The predictor takes whole patches: explore without a stride."
        : "These encoders have no predictor: take a V-JEPA 2 checkpoint.");
      return;
    }
    if (tool === "hide" && this.tool !== tool) this.kernel.ask({ ask: "prepare" });
    Object.assign(this, { tool, held: null });
    this.body.dataset.tool = tool;
    this.draw();
  }

  setStep(step) {
    const to = Math.min(this.steps - 1, Math.max(0, step));
    if (to === this.state.step) return;
    this.change({ step: to });
    const predicts = this.painted && !this.playing && "prediction pixels".includes(this.state.mode);
    if (this.kernel && predicts) this.kernel.ask({ ask: "recover" });
  }

  /** Play on at the pace of the clip, or stop. */
  play(on) {
    clearTimeout(this.playing);
    this.playing = null;
    if (on && this.steps > 1) {
      const at = this.state.step, to = (at + 1) % this.steps, { steps } = this.page;
      const lasts = to ? steps[to].time - steps[at].time : 0.6;
      this.playing = setTimeout(() => attempt(this.body, () => {
        this.change({ step: to });
        this.play(true);
      }), 1000 * Math.min(1.5, Math.max(0.06, lasts)));
    }
    this.draw();
  }

  /** Move the pointer to a point, or take it away. */
  point(at) {
    this.pointer = at;
    this.pointedIn = this.state.step;
    this.draw();
  }

  /** A point as it stands in the state. */
  pinAt({ step = this.state.step, x, y }) {
    const [left, top] = [x, y].map((value) => Math.round(value * 10) / 10);
    return { step, x: left, y: top };
  }

  /** Choose the patch at a point: instead of the chosen one, or beside it. */
  choose(at, another = false) {
    const pin = this.pinAt(at), pins = [...this.state.pins], { mode } = this.state;
    if (another && pins.length >= PIN_COLOURS.length) {
      this.say(`At most ${PIN_COLOURS.length} patches can be pinned: remove one first.`);
      return;
    }
    const active = another || !pins.length ? pins.length : this.state.active;
    pins[active] = pin;
    const shows = mode === "colours" || mode === "change" ? "similarity" : mode;
    this.change({ pins, active, mode: shows });
  }

  removePin(index) {
    const pins = this.state.pins.filter((_, i) => i !== index), { active } = this.state;
    const before = index < active ? active - 1 : active;
    this.change({ pins, active: Math.max(0, Math.min(pins.length - 1, before)) });
  }

  /** Say a sentence for some seconds, or until the next one. */
  say(text, keep = false) {
    this.status.textContent = text;
    clearTimeout(this.saying);
    if (!keep) this.saying = setTimeout(() => { this.status.textContent = ""; }, 6000);
  }

  toggleHelp() { this.help.hidden = !this.help.hidden; }

  async copyLink() {
    this.address.write(toAddress(this.state));
    try {
      await navigator.clipboard.writeText(location.href);
      this.say("The link to this view is copied.");
    } catch {
      this.say("This browser lets no page copy: take the link from the address bar.");
    }
  }

  setTheme() {
    const theme = this.ink("--dark").trim() === "1" ? "light" : "dark";
    this.body.dataset.theme = theme;
    document.documentElement.dataset.explorerTheme = theme;
    this.recolour();
  }

  /** A colour of the theme, looked up once a second at most: it makes the browser lay out. */
  ink(name) {
    if (!this.inks || performance.now() - this.inks.at > 1000) {
      this.inks = { at: performance.now(), style: getComputedStyle(this.body) };
    }
    return (this.inks[name] ??= this.inks.style.getPropertyValue(name));
  }

  recolour() {
    this.inks = null;
    this.draw();
  }

  // ---------------------------------------------------------------- to and from Python

  /** Step, chosen point and the clicks of *Segment* to Python, where they changed. */
  tell() {
    if (!this.kernel) return;
    const pin = this.state.pins[this.state.active], point = pin ? [pin.x, pin.y] : null;
    const { step, clicks } = this.state, before = this.sent;
    this.sent = { step, point, clicks };
    for (const [name, value] of Object.entries(this.sent)) {
      if (JSON.stringify(before[name]) !== JSON.stringify(value)) this.kernel.set(name, value);
    }
  }

  /** What Python chose. */
  taken(name, value) {
    if (name === "step" && value !== this.state.step) {
      this.sent.step = value;
      this.change({ step: Math.min(this.steps - 1, Math.max(0, value)) });
    }
    if (name === "point") {
      const { pins, active } = this.state, pin = pins[active];
      this.sent.point = value;
      if (!value && pin) this.removePin(active);
      if (!value) return;
      const [x, y] = value;
      if (!pin || Math.abs(pin.x - x) + Math.abs(pin.y - y) > 0.1) this.choose({ x, y });
    }
    if (name === "mask") {
      this.painted = value && Uint8Array.from(value);
      this.draw();
    }
  }

  /** A prediction that the kernel made: it takes the place of the one of its name. */
  predicted(prediction) {
    const place = this.predictions.findIndex(({ name, encoder }) =>
      name === prediction.name && encoder === prediction.encoder);
    const mask = place < 0 ? this.predictions.length : place;
    this.predictions[mask] = prediction;
    this.say("");
    this.change({ mask, mode: this.state.mode === "pixels" ? "pixels" : "prediction" });
    this.askForPixels();
  }

  /** Ask for the pixels of what was painted over, where they are to be shown and not there. */
  askForPixels() {
    const prediction = this.kernel && this.state.mode === "pixels" && paintedOf(this);
    if (!prediction || prediction.pixels) return;
    this.say("Decoding …", true);
    this.kernel.ask({ ask: "decode" });
  }

  /** The pixels that were asked for. */
  recovered(pixels) {
    this.say("");
    if (paintedOf(this)) paintedOf(this).pixels = pixels;
    this.draw();
  }

  /** A forecast after a patch was moved: of the steps after the one that is shown. */
  forecast(edit) {
    this.edit = edit;
    this.say("");
    this.change({ mode: "edit", step: Math.min(this.steps - 1, this.state.step + 1) });
  }

  /** Write the state into the address, once it has rested for a moment. */
  remember() {
    if (!this.address) return;
    clearTimeout(this.remembering);
    this.remembering = setTimeout(() => this.address.write(toAddress(this.state)), 250);
  }

  // ---------------------------------------------------------------- drawing

  draw() {
    if (this.waiting || this.gone) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (!this.gone) attempt(this.body, () => this.drawNow());
    });
  }

  drawNow() {
    const panels = panelsOf(this);
    this.parts.forEach((part) => part.draw(panels));
  }

  destroy() {
    this.gone = true;
    clearTimeout(this.playing);
    this.leave.forEach((stop) => stop());
  }
}

/** Draw an explorer into an element; see Explorer. */
export async function explore(root, page, options = {}) {
  const { kernel = null, address = null } = options;
  const [views, pictures, predictions] = await Promise.all([
    Promise.all(page.views.map((view) => decodeView(view))),
    Promise.all(page.steps.map((step) => decodePicture(step.picture))),
    Promise.all((page.predictions || []).map((one) => decodePrediction(one))),
  ]);
  const state = options.state ? { ...initialState(), ...options.state }
    : fromAddress(address ? address.read() : "", page);
  return new Explorer(root, { page, views, pictures, predictions }, { kernel, address, state });
}
