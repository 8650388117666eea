// Pull a component up or down, at the chosen patch or at the selected ones: what does it mean?

/** What is pulled in a view: {component, by, at(token)}, `by` in its packed units; or null. */
function pulled(ex, view) {
  const [component, amount] = ex.state.pull, { low, high, scale } = ex.views[view];
  const pin = ex.state.pins[ex.state.active], chosen = selection(ex);
  if (!amount || !(pin || chosen)) return null;
  const token = pin && tokenOf(ex, pin);
  return { component, by: (amount * (high[component] - low[component])) / scale[component],
    at: (i) => (chosen ? chosen[i] === 1 : i === token) };
}

/** Beside the numbers of a patch: which component, and by how much. */
function pullOf(ex) {
  const pull = (part) => ex.change({ pull: Object.assign([...ex.state.pull], part) });
  const which = componentPicker(ex, "component that is pulled", () => ex.state.pull[0],
    (component) => pull({ 0: component }));
  const slider = h("input", { type: "range", min: -1, max: 1, step: 0.05, "aria-label": "pull",
    title: "adds to this component at the chosen patch, or at the selected ones; 1 is its range "
      + "over the clip, from the 1st to the 99th percentile (; and ')",
    oninput: () => pull({ 1: Number(slider.value) }) });
  const element = group(label("pull component"), which, slider);
  return { element, draw() {
    const { mode, pins, brush } = ex.state;
    element.hidden = mode !== "pixels" || !(pins.length || brush);
    which.update();
    [, slider.value] = ex.state.pull;
  } };
}
