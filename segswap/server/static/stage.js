// Two pictures side by side, or one above the other where there is little room, and the lines between them.

import { draw, drawMask, make, withWidth } from "./svg.js";

const GAP = 14;
const HIGHEST = 0.7;  // of the window
const NARROW = 560;
const REACH = 28;     // pixels from an end at which its line is meant

/**
 * Draw a match into a place.
 *
 * A side is {view, name, width, height, and where there are such: region (the part shown, x1, y1, x2, y2 in pixels),
 * mask (of that part), box (in pixels)}. Lines are {a: [x, y], b: [x, y], colour}, normalised to the part shown.
 */
export function showStage(place, sides, lines) {
  const stage = make("div", { className: "stage" });
  const tools = make("div", { className: "tools" });
  const said = make("p", { className: "note" });
  said.setAttribute("aria-live", "polite");
  const toggle = (words, name) => {
    const input = make("input", { type: "checkbox", checked: true });
    input.addEventListener("change", () => stage.classList.toggle(name, !input.checked));
    tools.append(make("label", { className: "check" }, input, words));
  };
  if (sides.some((side) => side.mask)) toggle("Shared parts", "without-masks");
  if (lines.length) toggle("Lines", "without-lines");
  const names = make("div", { className: "names" }, ...sides.map(({ name }) => make("span", { textContent: name })));
  place.append(tools, stage, names, said);

  let chosen = -1, svg = null;
  const choose = (number) => {
    if (number === chosen) return;
    chosen = number;
    svg.querySelector(".lines").classList.toggle("one", number >= 0);
    svg.querySelectorAll(".line").forEach((line, n) => line.classList.toggle("on", n === number));
  };
  withWidth(stage, (room) => {
    const hadFocus = svg && svg === document.activeElement;
    const places = arranged(sides, room);
    const ends = lines.map(({ a, b }) => [a, b].map(([x, y], n) => [places[n].x + x * places[n].width, places[n].y + y * places[n].height]));
    const size = { width: Math.max(...places.map(({ x, width }) => x + width)), height: Math.max(...places.map(({ y, height }) => y + height)) };
    svg = draw("svg", { viewBox: `0 0 ${size.width} ${size.height}`, ...size, tabindex: lines.length ? 0 : -1, role: "img",
      "aria-label": `${sides[0].name} and ${sides[1].name}, ${lines.length} lines between places that belong together` },
      ...sides.map((side, n) => drawSide(side, places[n])),
      draw("g", { class: "lines" }, ...ends.map(([[x1, y1], [x2, y2]], n) => draw("g", { class: "line" },
        draw("path", { d: `M${x1} ${y1}L${x2} ${y2}`, stroke: lines[n].colour }),
        draw("circle", { cx: x1, cy: y1, r: 4, fill: lines[n].colour }), draw("circle", { cx: x2, cy: y2, r: 4, fill: lines[n].colour })))));
    svg.addEventListener("pointermove", (event) => {
      const { left, top } = svg.getBoundingClientRect();
      const distances = ends.map((both) => Math.min(...both.map(([x, y]) => Math.hypot(x - event.clientX + left, y - event.clientY + top))));
      const nearest = distances.indexOf(Math.min(...distances));
      choose(distances[nearest] < REACH ? nearest : -1);
    });
    svg.addEventListener("pointerleave", () => choose(-1));
    svg.addEventListener("blur", () => choose(-1));
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step || !lines.length) return;
      event.preventDefault();
      choose(chosen < 0 ? (step > 0 ? 0 : lines.length - 1) : (chosen + step + lines.length) % lines.length);
      said.textContent = `Line ${chosen + 1} of ${lines.length}`;
    });
    chosen = -1;
    stage.replaceChildren(svg);
    names.style.width = `${size.width}px`;
    if (hadFocus) svg.focus();
  });
}

/** Where each side lies, in pixels: side by side at one height, or one above the other. */
function arranged(sides, room) {
  const shapes = sides.map(({ region, width, height }) => (region ? (region[2] - region[0]) / (region[3] - region[1]) : width / height));
  const high = HIGHEST * window.innerHeight;
  if (room >= NARROW) {
    const height = Math.min((room - GAP) / (shapes[0] + shapes[1]), high);
    return [0, height * shapes[0] + GAP].map((x, n) => ({ x, y: 0, width: height * shapes[n], height }));
  }
  const sizes = shapes.map((shape) => ({ width: Math.min(room, high * shape), height: Math.min(room, high * shape) / shape }));
  return sizes.map((size, n) => ({ x: (room - size.width) / 2, y: n ? sizes[0].height + GAP : 0, ...size }));
}

function drawSide({ view, width, height, region = [0, 0, width, height], mask, box }, place) {
  const [x1, y1, x2, y2] = region;
  const scale = place.width / (x2 - x1);
  const side = draw("svg", { ...place, viewBox: `0 0 ${place.width} ${place.height}`, preserveAspectRatio: "none", overflow: "hidden" },
    draw("image", { href: view, x: -x1 * scale, y: -y1 * scale, width: width * scale, height: height * scale, preserveAspectRatio: "none" }));
  if (mask) side.append(drawMask(mask, place.width, place.height));
  if (box) side.append(...drawBox(box.map((value, n) => (value - region[n % 2]) * scale)));
  return side;
}

/** Draw a box, light on dark so that it shows anywhere; nothing for one without an area. */
export function drawBox([x1, y1, x2, y2]) {
  if (!(x2 > x1 && y2 > y1)) return [];
  const rect = { x: x1, y: y1, width: x2 - x1, height: y2 - y1 };
  return [draw("rect", { class: "rim", ...rect }), draw("rect", { class: "box", ...rect })];
}
