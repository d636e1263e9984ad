"""Pictures of a match: both images with what they share, an animation and a page that lay one over the other."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from html import escape

import cv2
import numpy as np
from PIL import Image

from segswap.drawing import CYAN, caption, data_uri, draw_lines, fit_height, spotlight, text_picture
from segswap.files import write_text
from segswap.images import encode_jpeg
from segswap.matching.alignment import Alignment, aligned_views, match_lines
from segswap.matching.match import AS_GIVEN, Match
from segswap.report.document import html_document
from segswap.report.svg import embedded, lines, mask_tint, svg, used

_HEIGHT, _WIDTH = 640, 2000
"""Of a picture of a match in pixels: its height, less where both images together would be wider."""

_GAP = 12
_RADIUS = 8
_SIDE = 480
"""Longer side of an animation in pixels."""

_HOLD, _STEP, _STEPS = 900, 70, 6
"""Of an animation: milliseconds that a picture and a step of the fading are shown, and steps of a fading."""

_PAGE_HEIGHT, _PAGE_WIDTH, _PAGE_SIDE, _QUALITY = 480, 1400, 1000, 85

_CSS = """
.stage { position: relative; display: grid; justify-items: start; max-width: 100%; width: max-content; }
.stage img { grid-area: 1 / 1; display: block; border-radius: .3rem; max-height: 75vh; width: auto; }
.fader { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: .25rem 1rem; max-width: 48rem;
  margin: .75rem 0; }
.fader input { grid-column: 1 / -1; width: 100%; accent-color: var(--accent); }
.fader span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.fader span + span { text-align: right; }
button { font: inherit; font-size: .9rem; color: var(--ink); background: var(--card); border: 1px solid var(--line);
  border-radius: .4rem; padding: .3rem .8rem; cursor: pointer; }
button[aria-pressed="true"] { border-color: var(--accent); color: var(--accent); }
.buttons { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; margin: .75rem 0; }
.both svg { display: block; width: 100%; height: auto; }
.contour { fill: none; stroke: #00bedc; stroke-width: 2; filter: drop-shadow(0 0 1px #000); }
.lines path { stroke-width: 2; stroke-linecap: round; }
.contour, .lines path { vector-effect: non-scaling-stroke; }
.lines circle { stroke: #1f2937; }
body:has(#labels:not(:checked)) .label { display: none; }
"""

_SCRIPT = """
const fade = document.getElementById('fade'), second = document.getElementById('second');
const blink = document.getElementById('blink');
let timer = 0;
function show(share) {
  if (!fade) return;
  fade.value = share;
  second.style.opacity = share / 100;
  fade.setAttribute('aria-valuetext', `${100 - share} % first, ${share} % second picture`);
}
function stop() {
  clearInterval(timer);
  timer = 0;
  blink?.setAttribute('aria-pressed', 'false');
}
function toggle() {
  if (!fade) return;
  if (timer) return stop();
  const next = () => show(fade.value < 50 ? 100 : 0);
  next();
  timer = setInterval(next, 900);
  blink.setAttribute('aria-pressed', 'true');
}
const choose = share => { stop(); show(share); };
fade?.addEventListener('input', () => choose(Number(fade.value)));
blink?.addEventListener('click', toggle);
for (const share of [0, 100]) document.getElementById(`only-${share}`)?.addEventListener('click', () => choose(share));
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const action = {1: () => choose(0), 2: () => choose(100), b: toggle,
    l: () => document.getElementById('labels')?.click()}[event.key];
  if (action) action();
});
show(50);
"""


def is_shared(match: Match) -> bool:
    """Return whether any cell's joint mask is above 0.5."""
    return max(match.shares) > 0


def describe_match(match: Match) -> str:
    """Return in words what was found."""
    if not is_shared(match):
        return f"Nothing shared was found (score {match.score:.3g})."
    shares = "{:.1%} of the first and {:.1%} of the second picture".format(*match.shares)
    turned = "" if match.turn == AS_GIVEN else f" It was found with the second one {match.turn}."
    return f"Shared: {shares} (score {match.score:.3g}).{turned}"


def _one_height(a: np.ndarray, b: np.ndarray, height: int, width: int, gap: int) -> tuple[np.ndarray, np.ndarray]:
    """Bring two pictures to one height, at which they stand side by side in ``width`` pixels."""
    aspects = sum(picture.shape[1] / picture.shape[0] for picture in (a, b))
    height = max(1, min(height, int((width - gap) / aspects)))
    return fit_height(a, height), fit_height(b, height)


def match_picture(a: np.ndarray, b: np.ndarray, match: Match, lines: int = 24) -> np.ndarray:
    """Return both pictures side by side, what they share in colour, lines between cells that correspond.

    Where nothing is shared the pictures stay as they are. What was found is said below.

    Args:
        a, b: RGB uint8 (H, W, 3), as they were matched.
        lines: at most so many.
    """
    shown = _one_height(a, b, _HEIGHT, _WIDTH, _GAP)
    if is_shared(match):
        shown = [spotlight(picture, mask, CYAN) for picture, mask in zip(shown, match.masks, strict=True)]
    drawn = draw_lines(*shown, match_lines(match, lines), _GAP, _RADIUS)
    words = text_picture(describe_match(match), max(drawn.shape[1], 480), 20)
    wide = cv2.copyMakeBorder(
        drawn, 0, 0, 0, words.shape[1] - drawn.shape[1], cv2.BORDER_CONSTANT, value=(255, 255, 255)
    )
    return cv2.copyMakeBorder(np.concatenate([wide, words]), *[_GAP] * 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def match_gif(a: np.ndarray, b: np.ndarray, alignment: Alignment, names: tuple[str, str]) -> bytes:
    """Return an animation, as GIF, that fades between the aligned pictures for ever.

    Args:
        a, b: RGB uint8 (H, W, 3).
        alignment: with a matrix.
        names: of the pictures, for the line below.
    """
    first, second = (view.astype(np.float32) for view in aligned_views(a, b, alignment, _SIDE))
    way = np.linspace(0, 1, _STEPS + 2)
    shares = [*way, *way[-2:0:-1]]
    frames = []
    for share in shares:
        mixed = np.rint(first * (1 - share) + second * share).astype(np.uint8)
        side = int(share > 0.5)
        frames.append(Image.fromarray(caption(mixed, f"{side + 1}: {names[side]}", 14)).quantize(256))
    file = io.BytesIO()
    times = [_HOLD if share in (0, 1) else _STEP for share in shares]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)
    return file.getvalue()


def _comparator(a: np.ndarray, b: np.ndarray, alignment: Alignment, names: tuple[str, str]) -> str:
    """Return the section that lays one picture over the other, or says why it cannot."""
    title = "<h2>One over the other</h2>"
    if alignment.matrix is None:
        return f'<section>{title}<p class="note">Not possible: {escape(str(alignment))}.</p></section>'
    x1, y1, x2, y2 = alignment.box
    views = aligned_views(a, b, alignment, min(_PAGE_SIDE, max(_SIDE, x2 - x1, y2 - y1)))
    images = "".join(
        f'<img id="{identity}" alt="{escape(name)}" src="{data_uri(encode_jpeg(view, _QUALITY), "image/jpeg")}">'
        for identity, name, view in zip(("first", "second"), names, views, strict=True)
    )
    first, second = (escape(name) for name in names)
    return (
        f"<section>{title}<p>The shared part of both pictures, the second one moved, turned and scaled onto the first. "
        f'Grey: beyond the picture\'s edge. <span class="note">{escape(str(alignment))}.</span></p>'
        f'<div class="stage">{images}</div><div class="fader">'
        '<input type="range" id="fade" min="0" max="100" value="50" '
        'aria-label="Fade from the first to the second picture">'
        f'<span title="{first}">1: {first}</span><span title="{second}">2: {second}</span></div>'
        '<p class="buttons"><button type="button" id="only-0">First</button><button type="button" id="only-100">Second'
        '</button><button type="button" id="blink" aria-pressed="false">Blink</button><span class="note">keys: '
        "<kbd>1</kbd> first, <kbd>2</kbd> second, <kbd>b</kbd> blink, arrows on the slider</span></p></section>"
    )


def _both(a: np.ndarray, b: np.ndarray, match: Match, names: tuple[str, str], count: int) -> str:
    """Return the section that shows both pictures with masks and lines."""
    shown = _one_height(a, b, _PAGE_HEIGHT, _PAGE_WIDTH, _GAP)
    sizes = [(picture.shape[1], picture.shape[0]) for picture in shown]
    left = sizes[0][0] + _GAP
    pictures = "".join(embedded(picture, f"picture-{n}", _QUALITY) for n, picture in enumerate(shown))
    labels = ""
    if is_shared(match):
        tints = [mask_tint(mask, *size, opacity=0.25) for mask, size in zip(match.masks, sizes, strict=True)]
        drawn = lines("lines", match_lines(match, count), *sizes, _GAP)
        labels = f'<g class="label">{tints[0]}<g transform="translate({left} 0)">{tints[1]}</g>{drawn}</g>'
    body = f"<defs>{pictures}</defs>{used('picture-0')}{used('picture-1', left)}{labels}"
    label = f"{names[0]} and {names[1]}, with what they share"
    control = (
        '<p class="buttons"><label><input type="checkbox" id="labels" checked> draw what is shared</label> '
        '<span class="note">(key: <kbd>l</kbd>)</span></p>'
        if labels
        else ""
    )
    return (
        f'<section><h2>Both pictures</h2>{control}<figure class="both">'
        f"{svg(left + sizes[1][0], sizes[0][1], label, body)}"
        f"<figcaption>{escape(names[0])} and {escape(names[1])}</figcaption></figure></section>"
    )


def write_match_page(
    path: str | os.PathLike,
    pictures: tuple[np.ndarray, np.ndarray],
    names: tuple[str, str],
    match: Match,
    alignment: Alignment,
    facts: Mapping[str, str],
    lines: int = 24,
) -> None:
    """Write a self-contained page of a match: a slider that fades between the aligned pictures, and both side by side.

    Args:
        path: of the HTML file.
        pictures: both, RGB uint8 (H, W, 3), as they were matched. names: theirs, for people.
        match, alignment: of these pictures.
        facts: how the match came about, by title.
        lines: at most so many are drawn.
    """
    listed = "".join(f"<dt>{escape(title)}</dt><dd>{escape(words)}</dd>" for title, words in facts.items())
    body = [
        f"<header><h1>What two pictures share</h1><p>{escape(describe_match(match))}</p></header>",
        *([_comparator(*pictures, alignment, names)] if is_shared(match) else []),
        _both(*pictures, match, names, lines),
        f"<section><h2>How it was found</h2><dl>{listed}</dl></section>",
        f"<script>{_SCRIPT}</script>",
    ]
    write_text(path, html_document(f"{names[0]} and {names[1]}", "\n".join(body), _CSS))
