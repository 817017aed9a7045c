// Small drawings: histories, bars and meters. They repeat what figures beside them say, so readers of screens skip them.

import { el } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";

function shape(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const [WIDTH, HEIGHT] = [240, 36];

/** Lines of the last `span` seconds, one for each kind; where nothing was seen, there is none. */
export function history(span, kinds) {
  const lines = kinds.map((kind) => ({
    line: shape("path", { class: `line ${kind}`, "vector-effect": "non-scaling-stroke" }),
    area: shape("path", { class: `area ${kind}` }),
  }));
  const parts = lines.flatMap(({ area, line }) => [area, line]);
  const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "history", "aria-hidden": "true" };
  const root = shape("svg", box, ...parts);
  /** `samples` are `[second, values]`, oldest first; `least` is what the height stands for at least. */
  const update = (now, samples, least) => {
    const inside = samples.filter(([at]) => at >= now - span - 2);
    const top = Math.max(least, ...inside.flatMap(([, values]) => values)) * 1.08;
    const x = (at) => (((at - now) / span + 1) * WIDTH).toFixed(1);
    const y = (value) => (HEIGHT - 1 - (value / top) * (HEIGHT - 3)).toFixed(1);
    lines.forEach(({ line, area }, kind) => {
      let [path, ground] = ["", ""];
      for (const run of runs(inside)) {
        const points = run.map(([at, values]) => `${x(at)} ${y(values[kind])}`).join("L");
        path += `M${points}`;
        ground += `M${x(run[0][0])} ${HEIGHT}L${points}L${x(run.at(-1)[0])} ${HEIGHT}Z`;
      }
      line.setAttribute("d", path);
      area.setAttribute("d", ground);
    });
  };
  return { root, update };
}

/** Samples without a gap between them. */
function runs(samples) {
  const found = [];
  for (const sample of samples) {
    const last = found.at(-1)?.at(-1);
    if (last && sample[0] - last[0] < 8) found.at(-1).push(sample);
    else found.push([sample]);
  }
  return found;
}

/** A bar of which parts are filled. */
export function meter(kinds) {
  const parts = kinds.map((kind) => el("span", { className: kind }));
  const root = el("div", { className: "meter", "aria-hidden": "true" }, ...parts);
  const update = (...shares) => {
    parts.forEach((part, at) => (part.style.width = `${(Math.min(1, Math.max(0, shares[at] || 0)) * 100).toFixed(1)}%`));
  };
  return { root, update };
}

/** A bar for each `[part, whole]`, the part filled. */
export function bars(values) {
  const top = Math.max(1, ...values.map(([, whole]) => whole));
  const step = WIDTH / values.length;
  const bar = (kind, at, value) => {
    const height = value > 0 ? Math.max(1.5, (value / top) * (HEIGHT - 1)) : 0;
    const place = { x: (at * step + step * 0.14).toFixed(2), y: (HEIGHT - height).toFixed(2) };
    return shape("rect", { class: kind, ...place, width: (step * 0.72).toFixed(2), height: height.toFixed(2) });
  };
  const drawn = values.flatMap(([part, whole], at) => [bar("whole", at, whole), bar("part", at, part)]);
  const ground = shape("path", { class: "ground", d: `M0 ${HEIGHT}H${WIDTH}`, "vector-effect": "non-scaling-stroke" });
  const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "bars", "aria-hidden": "true" };
  return shape("svg", box, ...drawn, ground);
}
