// Drawing: elements of SVG, a mask as a veil over what it does not cover, and its contour.

const NAMESPACE = "http://www.w3.org/2000/svg";
let masks = 0;

/** Make an SVG element with attributes and children. */
export function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Make an HTML element with properties and children. */
export function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

/**
 * Draw a mask of the server's over a picture of a size: the farther below its peak, the darker; its contour at 0.5.
 * So a faint mask darkens faintly: it says little, and the picture stays visible.
 */
export function drawMask(mask, width, height) {
  const identity = `mask-${masks++}`;
  const whole = { width, height };
  const d = mask.contours
    .map((corners) => `M${corners.map(([x, y]) => `${(x * width).toFixed(1)} ${(y * height).toFixed(1)}`).join("L")}Z`)
    .join("");
  const invert = draw("filter", { id: `${identity}-not`, "color-interpolation-filters": "sRGB", x: 0, y: 0, width: 1, height: 1 },
    draw("feColorMatrix", { values: ["-1 0 0 0", "0 -1 0 0", "0 0 -1 0"].map((row) => `${row} ${mask.peak}`).join(" ") + " 0 0 0 1 0" }));
  const veil = draw("mask", { id: identity, maskUnits: "userSpaceOnUse", x: 0, y: 0, ...whole },
    draw("image", { href: mask.png, preserveAspectRatio: "none", filter: `url(#${identity}-not)`, ...whole }));
  return draw("g", { class: "mask" }, invert, veil,
    draw("rect", { class: "veil", mask: `url(#${identity})`, ...whole }), draw("path", { class: "contour", d }));
}

/** Call back with the width of an element, now and whenever it changes. */
export function withWidth(element, redraw) {
  let width = 0;
  new ResizeObserver(() => {
    if (element.clientWidth && element.clientWidth !== width) redraw((width = element.clientWidth));
  }).observe(element);
}
