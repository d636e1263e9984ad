// Choosing a picture: dropped, from a file, or from the folder that is searched.

import { ask } from "./api.js";
import { make } from "./svg.js";

const LIMIT = Number(document.body.dataset.maxUpload);

/** A field that holds one picture: {name, width, height, view, and file or number}; null before one is chosen. */
export class Choice {
  picture = null;

  /** Fill a place of the page; `changed` is called whenever the picture is another. */
  constructor(place, picker, changed) {
    place.append(document.getElementById("choice").content.cloneNode(true));
    this.find = (selector) => place.querySelector(selector);
    this.changed = changed;
    this.find("legend").textContent = place.dataset.title;
    const input = this.find("input");
    input.setAttribute("aria-label", `${place.dataset.title}: choose a file`);
    input.addEventListener("change", () => input.files[0] && this.take({ file: input.files[0] }));
    input.addEventListener("click", () => { input.value = ""; });  // the same file may be chosen again
    const drop = this.find(".drop");
    for (const kind of ["dragover", "dragleave", "drop"]) {
      drop.addEventListener(kind, (event) => {
        event.preventDefault();
        drop.classList.toggle("over", kind === "dragover");
        if (kind === "drop" && event.dataTransfer.files[0]) this.take({ file: event.dataTransfer.files[0] });
      });
    }
    this.find(".from-folder")?.addEventListener("click", async () => {
      const number = await picker.choose();
      if (number !== null) this.take({ number });
    });
  }

  /** Take a file, or a number of the folder; the server says whether it is a picture. */
  async take({ file, number }) {
    const turn = (this.turn = Symbol("turn"));
    this.say("");
    this.find(".wait").hidden = false;
    try {
      if (file && file.size > LIMIT * 1e6) {
        throw new Error(`${file.name}: ${(file.size / 1e6).toFixed(1)} MB; at most ${LIMIT} MB are taken. Save it smaller, or start the server with a larger --max-upload`);
      }
      const found = file ? await ask("/api/picture", { file }) : await ask(`/api/picture/${number}`);
      if (turn === this.turn) this.show({ ...found, file, number });
    } catch (error) {
      if (turn === this.turn) this.say(error.message);
    }
    if (turn === this.turn) this.find(".wait").hidden = true;
  }

  /** Show a picture that the server has described. */
  show(picture) {
    this.turn = null;
    this.say("");
    this.find(".wait").hidden = true;
    this.picture = picture;
    const image = this.find("img");
    image.src = picture.view;
    image.alt = picture.name;
    image.hidden = false;
    this.find(".drop").classList.add("full");
    this.find(".name").textContent = this.find(".name").title = picture.name;
    this.find(".size").textContent = `${picture.width} × ${picture.height}`;
    this.changed(picture);
  }

  say(error) {
    this.find(".error").textContent = error;
    this.find(".error").hidden = !error;
  }
}

/** The dialog with the folder's pictures. */
export class Picker {
  constructor(dialog) {
    this.dialog = dialog;
    this.page = 0;
    const find = (selector) => dialog.querySelector(selector);
    this.search = find("input");
    this.list = find(".thumbnails");
    this.status = find(".status");
    this.where = find(".where");
    this.steps = [find(".previous"), find(".next")];
    let waiting;
    this.search.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => this.show(0), 150);
    });
    this.steps.forEach((button, n) => button.addEventListener("click", () => this.show(this.page + 2 * n - 1)));
    find(".close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }

  /** Let people choose; returns the picture's number, or null. */
  choose() {
    this.chosen = null;
    this.dialog.showModal();
    this.show(this.page);
    return new Promise((done) => this.dialog.addEventListener("close", () => done(this.chosen), { once: true }));
  }

  async show(page) {
    try {
      const query = new URLSearchParams({ page, find: this.search.value });
      const found = await ask(`/api/folder?${query}`);
      this.page = found.page;
      this.list.replaceChildren(...found.pictures.map(({ number, name }) => {
        const image = make("img", { src: `/thumbnail/${number}`, alt: "", loading: "lazy" });
        const button = make("button", { type: "button", title: name }, image, make("span", { textContent: name }));
        button.addEventListener("click", () => { this.chosen = number; this.dialog.close(); });
        return make("li", {}, button);
      }));
      this.status.textContent = found.found ? `${found.found.toLocaleString("en")} picture${found.found === 1 ? "" : "s"}` : "No picture has such a name; try a shorter part of it.";
      this.where.textContent = `Page ${found.page + 1} of ${found.pages}`;
      this.steps[0].disabled = found.page === 0;
      this.steps[1].disabled = found.page + 1 === found.pages;
    } catch (error) {
      this.status.textContent = error.message;
    }
  }
}
