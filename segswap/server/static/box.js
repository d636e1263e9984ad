// Drawing a box on a picture: by mouse, finger, keyboard, or as four numbers.

import { draw, withWidth } from "./svg.js";

const CORNERS = { nw: [0, 0], n: [0.5, 0], ne: [1, 0], e: [1, 0.5], se: [1, 1], s: [0.5, 1], sw: [0, 1], w: [0, 0.5] };
const FIELDS = ["left", "top", "width", "height"];
const HIGHEST = 0.65;  // of the window

const between = (value, low, high) => Math.min(Math.max(value, low), high);

/** A picture on which one box may be drawn; `box` is {left, top, width, height} in its pixels, null for all of it. */
export class BoxDrawing {
  box = null;

  constructor(place) {
    place.append(document.getElementById("box").content.cloneNode(true));
    this.place = place;
    this.canvas = place.querySelector(".canvas");
    this.inputs = FIELDS.map((name) => place.querySelector(`[name=${name}]`));
    for (const input of this.inputs) input.addEventListener("change", () => this.read(input));
    place.querySelector(".whole").addEventListener("click", () => this.set(null));
    withWidth(this.canvas, () => this.layout());
  }

  /** Show another picture, without a box. */
  show(picture) {
    this.picture = picture;
    this.box = null;
    this.place.hidden = false;
    this.place.parentElement.classList.add("ready");
    this.least = Math.min(8, picture.width, picture.height);
    this.layout();
  }

  /** The box as the server wants it: left, top, right, bottom; undefined for the whole picture. */
  text() {
    return this.box ? [this.box.left, this.box.top, this.box.left + this.box.width, this.box.top + this.box.height].join(",") : undefined;
  }

  /** Draw the picture as large as there is room. */
  layout() {
    if (!this.picture || !this.canvas.clientWidth) return;
    const { width, height, view, name } = this.picture;
    this.scale = Math.min(this.canvas.clientWidth / width, (HIGHEST * window.innerHeight) / height, Math.max(1, 480 / width));
    const size = { width: width * this.scale, height: height * this.scale };
    const hadFocus = this.svg && this.svg === document.activeElement;
    this.svg = draw("svg", { viewBox: `0 0 ${size.width} ${size.height}`, ...size, tabindex: 0, role: "application",
      "aria-roledescription": "picture to draw a box on", "aria-label": name, "aria-describedby": "box-hint" },
      draw("image", { href: view, preserveAspectRatio: "none", ...size }));
    this.overlay = draw("g");
    this.svg.append(this.overlay);
    this.svg.addEventListener("pointerdown", (event) => this.begin(event));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    this.canvas.replaceChildren(this.svg);
    if (hadFocus) this.svg.focus();
    this.set(this.box);
  }

  /** Set the box, in whole pixels and within the picture, and show it; `typed` is what the number fields have asked for. */
  set(box, typed) {
    const { width, height } = this.picture;
    if (box) {
      const w = between(Math.round(box.width), this.least, width);
      const h = between(Math.round(box.height), this.least, height);
      box = { left: between(Math.round(box.left), 0, width - w), top: between(Math.round(box.top), 0, height - h), width: w, height: h };
    }
    this.box = box;
    const shown = box ?? { left: 0, top: 0, width, height };
    this.typed = typed ?? shown;
    this.inputs.forEach((input, n) => {
      input.value = shown[FIELDS[n]];
      input.max = n % 2 ? height : width;
    });
    this.overlay.replaceChildren(...(box ? this.drawn(box) : []));
  }

  drawn(box) {
    const [x, y, w, h] = FIELDS.map((name) => box[name] * this.scale);
    const [W, H] = [this.picture.width * this.scale, this.picture.height * this.scale];
    const rect = { x, y, width: w, height: h };
    const handles = Object.entries(CORNERS).flatMap(([name, [u, v]]) => {
      const centre = { cx: x + u * w, cy: y + v * h };
      const grip = draw("circle", { class: "grip", ...centre, r: Math.min(18, Math.max(9, Math.min(w, h) / 4)), "data-handle": name });
      grip.style.cursor = `${name}-resize`;
      const handle = draw("circle", { class: "handle", ...centre, r: 5, "data-handle": name });
      handle.style.cursor = grip.style.cursor;
      return [grip, handle];
    });
    return [draw("path", { class: "veil", d: `M0 0H${W}V${H}H0ZM${x} ${y}h${w}v${h}h${-w}Z` }), draw("rect", { class: "rim", ...rect }),
      draw("rect", { class: "frame", ...rect, "data-handle": "move" }), ...handles];
  }

  /** Begin a drag: of a handle, of the box, or of a new box. */
  begin(event) {
    if (event.button > 0) return;
    event.preventDefault();
    this.svg.focus({ preventScroll: true });
    this.svg.setPointerCapture(event.pointerId);
    const at = this.position(event);
    const handle = event.target.dataset.handle;
    const before = this.box;
    const changed = !handle ? (now) => this.spanned(at, now)
      : handle === "move" ? (now) => ({ ...before, left: before.left + now.x - at.x, top: before.top + now.y - at.y })
      : (now) => this.pulled(before, CORNERS[handle], now.x - at.x, now.y - at.y);
    const move = (moved) => {
      const now = this.position(moved);
      // A click is no box: only what was drawn counts.
      if (handle || Math.hypot(now.x - at.x, now.y - at.y) * this.scale > 6) this.set(changed(now));
    };
    const end = () => {
      this.svg.removeEventListener("pointermove", move);
      for (const kind of ["pointerup", "pointercancel"]) this.svg.removeEventListener(kind, end);
    };
    this.svg.addEventListener("pointermove", move);
    for (const kind of ["pointerup", "pointercancel"]) this.svg.addEventListener(kind, end);
  }

  position(event) {
    const { left, top } = this.svg.getBoundingClientRect();
    return { x: between((event.clientX - left) / this.scale, 0, this.picture.width), y: between((event.clientY - top) / this.scale, 0, this.picture.height) };
  }

  spanned(a, b) {
    return { left: Math.min(a.x, b.x), top: Math.min(a.y, b.y), width: Math.abs(a.x - b.x), height: Math.abs(a.y - b.y) };
  }

  /** The box after a handle at [u, v] was pulled; the side across stays where it is. */
  pulled({ left, top, width, height }, [u, v], dx, dy) {
    const { width: W, height: H } = this.picture;
    const right = left + width, bottom = top + height;
    if (u === 0) left = between(left + dx, 0, right - this.least);
    if (v === 0) top = between(top + dy, 0, bottom - this.least);
    return { left, top, width: (u === 1 ? between(right + dx, left + this.least, W) : right) - left,
      height: (v === 1 ? between(bottom + dy, top + this.least, H) : bottom) - top };
  }

  key(event) {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (!dx && !dy) return;
    event.preventDefault();
    const { width: W, height: H } = this.picture;
    // The first key puts a box in the middle.
    if (!this.box) return this.set({ left: W / 4, top: H / 4, width: W / 2, height: H / 2 });
    const step = event.ctrlKey ? 1 : Math.max(1, Math.round(Math.max(W, H) / 50));
    if (event.shiftKey) return this.set(this.pulled(this.box, [1, 1], dx * step, dy * step));
    return this.set({ ...this.box, left: this.box.left + dx * step, top: this.box.top + dy * step });
  }

  /** Take what a number field says. What was typed into the others counts again as soon as there is room for it. */
  read(input) {
    if (Number.isNaN(input.valueAsNumber)) return this.set(this.box, this.typed);
    const typed = { ...this.typed, [input.name]: input.valueAsNumber };
    const box = {};
    for (const [start, length, whole] of [["left", "width", this.picture.width], ["top", "height", this.picture.height]]) {
      const long = between(typed[length], this.least, whole);
      // What begins in the picture ends at its border; what begins elsewhere is moved into it.
      if (typed[start] < 0 || typed[start] > whole - this.least) typed[start] = between(typed[start], 0, whole - long);
      box[start] = typed[start];
      box[length] = Math.min(long, whole - typed[start]);
    }
    return this.set(box, typed);
  }
}
