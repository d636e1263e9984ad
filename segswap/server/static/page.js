// The page: two views, what is chosen in them, and what the server found.

import { compute, pictureFields } from "./api.js";
import { BoxDrawing } from "./box.js";
import { Choice, Picker } from "./choose.js";
import { showStage, drawBox } from "./stage.js";
import { draw, drawMask, make } from "./svg.js";

const FIRST = 24;  // cards shown at once; the others on demand

const percent = (share) => (share > 0 && share < 0.01 ? "under 1 %" : `${Math.round(100 * share)} %`);
const count = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
const significant = (score) => (score >= 100 ? score.toFixed(0) : score.toFixed(score >= 10 ? 1 : 2));

/** Show the view that the address names. */
function route() {
  const name = location.hash === "#search" ? "search" : "compare";
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== name;
  for (const link of document.querySelectorAll("nav a")) {
    link.toggleAttribute("aria-current", link.hash === `#${name}`);
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
  }
}
window.addEventListener("hashchange", route);
route();

/** Connect a view's form: `computed` gets what `asked` says to ask for, one at a time. */
function connect(section, asked, computed) {
  const form = section.querySelector("form"), status = form.querySelector(".status"), button = form.querySelector(".main");
  const result = section.querySelector(".result");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    status.classList.remove("error");
    try {
      const { address, fields, context } = asked();
      const answer = await compute(address, fields, status);
      result.replaceChildren();
      result.hidden = false;
      computed(answer, context, result);
      status.textContent = `Done in ${Math.max(answer.seconds, 0.1)} s.`;
      result.focus({ preventScroll: true });
      result.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    } catch (error) {
      status.classList.add("error");
      status.textContent = error.message;
    } finally {
      button.disabled = false;
    }
  });
  return { form, button, result, status };
}

/** Forget what was found: it belongs to other pictures than those that are chosen now. */
function forget({ result, status }) {
  result.hidden = true;
  result.replaceChildren();
  status.textContent = "";
  status.classList.remove("error");
}

function setUpCompare(picker) {
  const section = document.getElementById("compare");
  const choices = [...section.querySelectorAll("[data-choice]")].map((place) => new Choice(place, picker, () => {
    view.button.disabled = choices.some(({ picture }) => !picture);
    forget(view);
  }));
  const view = connect(section, () => {
    const [a, b] = choices.map(({ picture }) => picture);
    const turns = section.querySelector("[name=turns]").checked ? "both" : "none";
    return { address: "/api/match", fields: { ...pictureFields(a, "a", "a_number"), ...pictureFields(b, "b", "b_number"), turns }, context: [a, b] };
  }, showMatch);
  return { choices, form: view.form };
}

/** Show what two pictures share. */
function showMatch(answer, pictures, result) {
  const shares = answer.masks.map(({ share }) => share);
  const nothing = Math.max(...shares) === 0;
  const turned = turnWords(answer.turn);
  result.append(
    make("p", { className: "verdict", textContent: nothing ? "They share nothing that stands out." : `They share ${percent(shares[0])} of the first and ${percent(shares[1])} of the second picture.` }),
    make("p", { className: "facts", textContent: nothing
      ? `Score ${significant(answer.score)}. The darker a part of the pictures below, the less alike. A small detail is better searched for, with a box around it.`
      : `Score ${significant(answer.score)}, a sum over the shared cells${turned ? `; the second picture matched best ${turned}` : ""}.` }),
  );
  result.append(...remarks(answer));
  showStage(result, pictures.map((picture, n) => ({ ...picture, mask: answer.masks[n] })), answer.lines);
  if (answer.alignment.views) showOver(answer.alignment.views, pictures.map(({ name }) => name), result);
}

/** What is against the sizes of the pictures, a paragraph each. */
function remarks(answer) {
  return answer.remarks.map((words) => make("p", { className: "facts", textContent: `${words}.` }));
}

/** Lay the shared part of one picture over that of the other, with a slider that fades between them. */
function showOver([first, second], names, place) {
  const slider = make("input", { type: "range", min: 0, max: 100, value: 50 });
  slider.setAttribute("aria-label", "Fade from the first to the second picture");
  const top = make("img", { src: second, alt: `The same part of ${names[1]}, laid on it` });
  const fade = () => {
    top.style.opacity = slider.value / 100;
    slider.setAttribute("aria-valuetext", `${100 - slider.value} % first, ${slider.value} % second picture`);
  };
  slider.addEventListener("input", fade);
  fade();
  place.append(make("h3", { textContent: "One over the other" }), make("div", { className: "over" }, make("img", { src: first, alt: `The shared part of ${names[0]}` }), top),
    make("div", { className: "fade" }, "First", slider, "Second"));
}

function setUpSearch(picker, compare) {
  const section = document.getElementById("search");
  const drawing = new BoxDrawing(section.querySelector(".drawing"));
  const choice = new Choice(section.querySelector("[data-choice]"), picker, (picture) => {
    view.button.disabled = false;
    drawing.show(picture);
    forget(view);
  });
  const view = connect(section, () => ({
    address: "/api/search",
    fields: { ...pictureFields(choice.picture, "file", "number"), box: drawing.text() },
    context: choice.picture,
  }), (answer, query, result) => showHits(answer, query, result, compare));
}

/** How a picture was turned, in words; nothing where it was not. */
function turnWords({ rotation, mirrored }) {
  return [mirrored && "mirrored", rotation && `turned by ${rotation}° counter-clockwise`].filter(Boolean).join(" and ");
}

/** Show what a search has found, as cards; one of them leads to its match. */
function showHits(answer, query, result, compare) {
  const above = answer.hits.filter((hit) => hit.above), rest = answer.hits.filter((hit) => !hit.above);
  const known = answer.threshold !== null;
  const verdict = !known ? `${count(answer.hits.length, "place")}, the most alike first`
    : above.length ? `Found at ${count(above.length, "place")}` : "Found in no picture";
  const rate = `of 100 pictures without the detail at most about ${Math.round(1000 * answer.false_positives) / 10} would score above it`;
  const facts = known ? `Threshold ${significant(answer.threshold)}: ${rate}.` : `${answer.remark[0].toUpperCase()}${answer.remark.slice(1)}.`;
  const list = make("div", { className: "found" }), detail = make("div", { className: "detail", tabIndex: -1, hidden: true });
  const open = (hit, card) => {
    list.hidden = true;
    detail.hidden = false;
    showHit(hit, answer.query, query, detail, compare, () => {
      detail.hidden = true;
      list.hidden = false;
      card.focus();
    });
    detail.focus({ preventScroll: true });
    result.scrollIntoView({ block: "start" });
  };
  list.append(make("p", { className: "verdict", textContent: verdict }), make("p", { className: "facts", textContent: `${facts} ${count(answer.searched, "picture")} searched, ${count(answer.compared, "place")} compared.` }), ...remarks(answer));
  if (answer.left_out.length) list.lastChild.append(` Left out, being the same file: ${answer.left_out.join(", ")}.`);
  const group = (title, hits, first) => {
    if (!hits.length) return;
    if (title) list.append(make("h3", { className: "group", textContent: title }));
    const cards = make("ol", { className: "cards", start: first });
    const show = (some) => cards.append(...some.map((hit) => make("li", {}, card(hit, open))));
    show(hits.slice(0, FIRST));
    list.append(cards);
    if (hits.length <= FIRST) return;
    const more = make("button", { type: "button", textContent: `Show ${hits.length - FIRST} more` });
    more.addEventListener("click", () => {
      show(hits.slice(FIRST));
      more.remove();
      cards.children[FIRST].firstChild.focus();
    });
    list.append(more);
  };
  group(above.length ? "Above the threshold" : "", above, 1);
  group(known ? "Below the threshold, where chance alone may be at work" : "", rest, above.length + 1);
  result.append(list, detail);
}

function card(hit, open) {
  const { width, height } = hit;
  const picture = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "" },
    draw("image", { href: `/thumbnail/${hit.number}`, width, height, preserveAspectRatio: "none" }), ...(hit.mask ? [drawMask(hit.mask, width, height)] : []), ...drawBox(hit.box));
  const numbers = make("span", { className: "numbers" }, `Score ${significant(hit.score)}`);
  if (hit.above !== null) numbers.append(make("span", { className: hit.above ? "above" : "below", textContent: hit.above ? "above" : "below" }));
  const button = make("button", { type: "button", className: "card", title: hit.name }, make("span", { className: "picture" }, picture),
    make("span", {}, make("span", { className: "name", textContent: hit.name }), numbers));
  button.addEventListener("click", () => open(hit, button));
  return button;
}

/** Show one hit beside the query: what of it lies where. */
function showHit(hit, asked, query, place, compare, close) {
  const back = make("button", { type: "button", textContent: "← All results" });
  const whole = make("button", { type: "button", textContent: "Compare the whole pictures" });
  back.addEventListener("click", close);
  whole.addEventListener("click", async () => {
    whole.disabled = true;
    location.hash = "#compare";
    compare.choices[0].show(query);
    await compare.choices[1].take({ number: hit.number });
    compare.form.requestSubmit();
  });
  const chance = hit.p_value === null ? "" : `; among pictures without the detail, ${percent(hit.p_value)} would score as high`;
  const turned = turnWords(hit.turn);
  place.replaceChildren(make("div", { className: "actions" }, back, whole), make("p", { className: "verdict", textContent: hit.name }),
    make("p", { className: "facts", textContent: `Score ${significant(hit.score)}${chance}.${turned ? ` The detail was found ${turned}.` : ""}` }));
  showStage(place, [
    { ...query, region: asked.region, box: asked.box },
    { name: hit.name, view: `/image/${hit.number}`, width: hit.width, height: hit.height, mask: hit.mask, box: hit.box },
  ], hit.lines);
}

const dialog = document.getElementById("picker");
const picker = dialog && new Picker(dialog);
const compare = setUpCompare(picker);
if (picker) setUpSearch(picker, compare);
