// Making and patching elements. What came from elsewhere becomes text, never markup; nodes that stay keep their place,
// focus and scroll position, so that nothing flickers.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** good, bad or wait; the style gives each a colour and a shape. */
export function setTone(node, tone) {
  if (tone) {
    if (node.dataset.tone !== tone) node.dataset.tone = tone;
  } else if (node.dataset.tone) {
    delete node.dataset.tone;
  }
}

export function show(node, shown) {
  if (node.hidden === shown) node.hidden = !shown;
}

export function element(tag, classes, text) {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** An element with children. */
export function group(tag, classes, ...children) {
  const made = element(tag, classes);
  made.append(...children);
  return made;
}

export function button(classes, text, press) {
  const made = element("button", classes, text);
  made.type = "button";
  if (press) made.addEventListener("click", press);
  return made;
}

/** A shape that says the tone of what is around it to who can't tell its colour. */
export function mark() {
  const made = element("span", "mark");
  made.setAttribute("aria-hidden", "true");
  return made;
}

export function svg(tag, classes) {
  const made = document.createElementNS(SVG, tag);
  if (classes) made.setAttribute("class", classes);
  return made;
}

/** Sets numbers that place a shape: x, y, width and the like. */
export function place(shape, numbers) {
  for (const [name, value] of Object.entries(numbers)) {
    const text = typeof value === "number" ? String(Math.round(value * 100) / 100) : value;
    const attribute = PLACES.get(name);
    if (attribute && shape.getAttribute(attribute) !== text) shape.setAttribute(attribute, text);
  }
  return shape;
}

// Only these can be set by name, and none of them holds code or an address.
const PLACES = new Map(
  ["x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "width", "height", "d", "points", "viewBox", "transform"].map((n) => [n, n]),
);

/** Makes `parent` hold one child a key, in order, and returns them. */
export function keyed(parent, keys, make) {
  const old = new Map(Array.from(parent.children, (child) => [child.dataset.key, child]));
  const nodes = keys.map((key, at) => {
    let node = old.get(key);
    if (!node) {
      node = make(at);
      node.dataset.key = key;
    }
    old.delete(key);
    return node;
  });
  for (const gone of old.values()) gone.remove();
  nodes.forEach((node, at) => {
    if (parent.children[at] !== node) parent.insertBefore(node, parent.children[at] || null);
  });
  return nodes;
}

/** Options of a select; the chosen one stays chosen where it is still there. */
export function fillSelect(select, options, chosen) {
  const made = keyed(select, options.map((o) => o.value), () => element("option"));
  options.forEach((option, at) => {
    made[at].value = option.value;
    setText(made[at], option.text);
  });
  if (chosen !== undefined && select.value !== chosen) select.value = chosen;
}

let lastSaid = "";

/** Says a sentence to who listens rather than looks. */
export function announce(text) {
  if (text === lastSaid) return;
  lastSaid = text;
  setText(byId("announce"), text);
}

/** A state in place of content: what is so, and what to do. */
export function notice(tone, title, advice) {
  const made = element("div", "notice");
  setTone(made, tone);
  made.append(group("p", "notice-title", mark(), element("span", "", title)));
  if (advice) made.append(element("p", "quiet", advice));
  return made;
}
