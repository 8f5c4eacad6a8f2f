// The search tree viewer. Only the rows in view are in the document, so that a tree of many thousand nodes stays fast.
// Everything that a model wrote is set as text, never as HTML.
"use strict";
(() => {
  const data = window.RSTAR_TREE;
  const { tags, parents, nodes, walks, inTurn } = data;
  const HEIGHT = 28, size = tags.length;
  const children = tags.map(() => []);
  parents.forEach((parent, node) => { if (parent >= 0) children[parent].push(node); });
  const depth = new Array(size).fill(0);
  for (let i = 1; i < size; i++) depth[i] = depth[parents[i]] + 1;
  const pathTo = (node) => { const path = []; for (let at = node; at >= 0; at = parents[at]) path.unshift(at); return path; };

  const walked = new Set();                     // nodes on any walk
  const backs = new Map();                      // node: the walks that came back to it
  const turns = new Map();                      // node: the walk that took this step instead, and whether it ended better
  walks.forEach((walk, place) => {
    const path = pathTo(walk.end);
    path.forEach((node) => walked.add(node));
    if (walk.back === null) return;
    backs.set(walk.back, [...(backs.get(walk.back) || []), walk.walk]);
    const turn = path[path.indexOf(walk.back) + 1];
    walk.better = nodes.q[walk.end] > nodes.q[walks[place - 1].end];
    if (turn !== undefined && !turns.has(turn)) turns.set(turn, walk);
  });
  const chosenWalk = walks.find((walk) => walk.walk === data.chosen);
  const chosen = new Set(chosenWalk ? pathTo(chosenWalk.end) : []);
  const endOf = new Map(walks.map((walk) => [walk.end, walk]));

  let onlyWalked = walks.length > 0, selected = 0, shownWalk = null, onWalk = new Set(), rows = [], placeOf = new Map();
  const open = new Set(size > 400 ? [0, ...chosen] : children.keys());
  const treeElement = document.getElementById("tree");
  const detail = document.getElementById("detail"), where = document.getElementById("where");
  const sizer = document.createElement("div");
  sizer.className = "sizer";
  sizer.setAttribute("role", "presentation");
  treeElement.append(sizer);

  const visible = (node) => (onlyWalked ? children[node].filter((child) => walked.has(child) || children[child].length) : children[node]);
  const number = (value) => (value === null || value === undefined ? null : (value >= 0 ? "+" : "\u2212") + Math.abs(value).toFixed(2));
  const failed = (node) => (nodes.status[node] && nodes.status[node] !== "ok") || (nodes.end[node] && nodes.end[node] !== "answer");

  function element(name, text, className) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function headline(node) {
    if (node === 0) return "the question";
    if (nodes.error[node]) return nodes.error[node];
    const source = (nodes.code[node] || nodes.text[node] || "").split("\n").map((line) => line.trim()).filter(Boolean);
    return source.slice(0, 2).join(" | ").slice(0, 120);
  }

  function layout() {
    rows = [];
    const stack = [0];
    while (stack.length) {
      const node = stack.pop();
      rows.push(node);
      if (open.has(node)) stack.push(...visible(node).slice().reverse());
    }
    placeOf = new Map(rows.map((node, place) => [node, place]));
    sizer.style.height = `${rows.length * HEIGHT}px`;
    draw();
  }

  function draw() {
    const first = Math.max(0, Math.floor(treeElement.scrollTop / HEIGHT) - 10);
    const last = Math.min(rows.length, first + Math.ceil(treeElement.clientHeight / HEIGHT) + 20);
    const made = [];
    for (let place = first; place < last; place++) made.push(row(rows[place], place));
    if (placeOf.has(selected) && (placeOf.get(selected) < first || placeOf.get(selected) >= last)) {
      made.push(row(selected, placeOf.get(selected)));  // what has the focus must be in the document
    }
    sizer.replaceChildren(...made);
    treeElement.setAttribute("aria-activedescendant", `node-${selected}`);
  }

  function row(node, place) {
    const line = element("div", undefined, "row");
    const below = visible(node), siblings = node ? visible(parents[node]) : [0];
    line.id = `node-${node}`;
    line.style.top = `${place * HEIGHT}px`;
    line.style.paddingLeft = `${0.4 + depth[node] * 1.1}rem`;
    line.setAttribute("role", "treeitem");
    line.setAttribute("aria-level", depth[node] + 1);
    line.setAttribute("aria-setsize", siblings.length);
    line.setAttribute("aria-posinset", siblings.indexOf(node) + 1);
    line.setAttribute("aria-selected", node === selected);
    if (below.length) line.setAttribute("aria-expanded", open.has(node));
    line.classList.toggle("selected", node === selected);
    line.classList.toggle("unwalked", node !== 0 && !walked.has(node));
    line.classList.toggle("onwalk", onWalk.has(node));
    line.append(element("span", below.length ? (open.has(node) ? "\u25be" : "\u25b8") : "", "twist"));
    line.append(element("span", tags[node], "tag"));
    if (chosen.has(node)) line.append(element("span", "\u2605 chosen", "star"));
    if (backs.has(node)) line.append(element("span", `\u21a9 back \u00d7${backs.get(node).length}`, "back"));
    if (turns.has(node)) {
      line.append(element("span", `\u21aa walk ${turns.get(node).walk}${turns.get(node).better ? ", better" : ""}`, "back"));
    }
    const figures = [`N=${nodes.visits[node]}`, `Q=${number(nodes.q[node])}`];
    if (nodes.prior[node] !== null) figures.push(`PPM=${number(nodes.prior[node])}`);
    if (nodes.samples[node] > 1) figures.push(`\u00d7${nodes.samples[node]}`);
    line.append(element("span", figures.join(" "), "figures"));
    if (nodes.end[node] === "answer") {
      const walk = endOf.get(node), right = walk && walk.outcome === "correct";
      const verdict = walk ? (right ? " \u2713 right" : ` \u2717 ${walk.outcome.replace("_", " ")}`) : "";
      line.append(element("span", `answer ${nodes.answer[node]}${verdict}`, right ? "right" : walk ? "failed" : ""));
    } else {
      const status = [nodes.status[node] === "ok" ? null : nodes.status[node], nodes.end[node]].filter(Boolean).join(", ");
      if (status) line.append(element("span", status, "failed"));
      line.append(element("span", headline(node)));
    }
    line.addEventListener("click", (event) => {
      if (event.target.classList.contains("twist")) toggle(node); else select(node);
    });
    line.addEventListener("dblclick", () => toggle(node));
    return line;
  }

  function toggle(node, wanted) {
    const opened = wanted === undefined ? !open.has(node) : wanted;
    if (opened) open.add(node); else open.delete(node);
    layout();
  }

  function reveal(node) {
    if (onlyWalked && pathTo(node).some((each) => each && !visible(parents[each]).includes(each))) setOnlyWalked(false);
    pathTo(node).slice(0, -1).forEach((each) => open.add(each));
  }

  function select(node, quiet) {
    selected = node;
    reveal(node);
    layout();
    const top = placeOf.get(node) * HEIGHT;
    if (top < treeElement.scrollTop) treeElement.scrollTop = top;
    if (top + HEIGHT > treeElement.scrollTop + treeElement.clientHeight) treeElement.scrollTop = top + HEIGHT - treeElement.clientHeight;
    draw();
    describe(node);
    overview();
    if (!quiet) where.textContent = `step ${tags[node]}`;
  }

  function describe(node) {
    const parts = [element("h2", node ? `Step ${tags[node]}` : "The question (root)")];
    const facts = element("dl");
    const fact = (name, value) => {
      if (value !== null && value !== undefined && value !== "") facts.append(element("dt", name), element("dd", String(value)));
    };
    fact("Visits N", nodes.visits[node]);
    fact("Mean value Q", number(nodes.q[node]));
    fact("PPM", number(nodes.prior[node]));
    fact("Kind", nodes.kind[node]);
    fact("Code ended", nodes.status[node]);
    fact("Path ended", nodes.end[node]);
    fact("Sampled", nodes.samples[node] && `${nodes.samples[node]} times`);
    fact("Tokens", nodes.tokens[node]);
    fact("Answer", nodes.answer[node]);
    fact("On the chosen line", chosen.has(node) ? "yes" : "no");
    if (backs.has(node)) fact("Search came back here", `before walk ${backs.get(node).join(", ")}, and took another way`);
    if (turns.has(node)) {
      const turn = turns.get(node);
      fact("Another way", `walk ${turn.walk} took this step after the search went back to ${tags[turn.back]}; it ended ${turn.better ? "better" : "no better"} than the walk before`);
    }
    const walk = endOf.get(node);
    if (walk) fact("End of walk", `${walk.walk}: ${(walk.outcome || walk.why).replace("_", " ")}`);
    parts.push(facts);
    const block = (title, text, name) => {
      if (!text) return;
      const frame = element("pre");
      frame.tabIndex = 0;
      frame.append(element(name, text));
      parts.push(element("h3", title), frame);
    };
    block("Code", nodes.code[node], "code");
    block("Printed", nodes.output[node], "samp");
    block("Error", nodes.error[node], "samp");
    if (nodes.text[node] && nodes.text[node] !== nodes.code[node]) block("Step as the policy wrote it", nodes.text[node], "code");
    detail.replaceChildren(...parts);
  }

  // ---- the overview: all nodes as dots by level; a click selects the nearest one

  const canvas = document.getElementById("overview");
  const across = new Array(size).fill(0);
  (() => {
    const levels = [];
    for (const node of depthFirst()) (levels[depth[node]] = levels[depth[node]] || []).push(node);
    for (const level of levels) level.forEach((node, place) => { across[node] = (place + 0.5) / level.length; });
  })();
  function depthFirst() {
    const order = [], stack = [0];
    while (stack.length) { const node = stack.pop(); order.push(node); stack.push(...children[node].slice().reverse()); }
    return order;
  }
  const deepest = depth.reduce((most, each) => Math.max(most, each), 1);
  const spot = (node) => [across[node] * canvas.width, 12 + (depth[node] / deepest) * (canvas.height - 24)];

  function overview() {
    const scale = window.devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * scale;
    canvas.height = canvas.clientHeight * scale;
    const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const edge = (node, name, width) => {
      const [x, y] = spot(node), [u, v] = spot(parents[node]);
      pen.strokeStyle = colour(name); pen.lineWidth = width * scale;
      pen.beginPath(); pen.moveTo(u, v); pen.lineTo(x, y); pen.stroke();
    };
    for (let i = 1; i < size; i++) if (walked.has(i)) edge(i, "--line", 1);
    for (const node of onWalk) if (node) edge(node, "--accent", 2);
    for (const node of chosen) if (node) edge(node, "--open", 2.5);
    for (let i = 0; i < size; i++) {
      const [x, y] = spot(i);
      pen.fillStyle = colour(failed(i) ? "--bad" : endOf.has(i) && endOf.get(i).outcome === "correct" ? "--good" : walked.has(i) ? "--accent" : "--line");
      pen.beginPath(); pen.arc(x, y, (i === selected ? 5 : walked.has(i) ? 2.6 : 1.4) * scale, 0, 7); pen.fill();
      if (backs.has(i)) { pen.strokeStyle = colour("--back"); pen.lineWidth = 1.6 * scale; pen.beginPath(); pen.arc(x, y, 5 * scale, 0, 7); pen.stroke(); }
    }
  }
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * canvas.width, y = ((event.clientY - box.top) / box.height) * canvas.height;
    let best = 0, least = Infinity;
    for (let i = 0; i < size; i++) {
      const [u, v] = spot(i), far = (u - x) ** 2 + (v - y) ** 2;
      if (far < least) { least = far; best = i; }
    }
    select(best);
    treeElement.focus();
  });

  // ---- walks, buttons, keys

  const list = document.getElementById("walks");
  let before = null;
  for (const walk of walks) {
    const path = pathTo(walk.end);
    const from = walk.back === null ? null : tags[walk.back];
    const way = path.filter((node) => walk.back === null ? node : depth[node] > depth[walk.back]).map((node) => tags[node]).join(" \u203a ");
    const result = walk.answer !== null && walk.answer !== undefined ? `answer ${walk.answer}` : walk.why;
    const verdict = walk.outcome ? `, ${walk.outcome === "correct" ? "right" : walk.outcome.replace("_", " ")}` : "";
    const start = inTurn && before && from !== null ? `went back to ${from} and took ${way}` : `took ${way}`;
    const button = element("button", `${walk.walk === data.chosen ? "\u2605 " : ""}Walk ${walk.walk}: ${start}: ${result}${verdict}`);
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      shownWalk = shownWalk === walk.walk ? null : walk.walk;
      onWalk = new Set(shownWalk === null ? [] : path);
      for (const each of list.querySelectorAll("button")) each.setAttribute("aria-pressed", String(each === button && shownWalk !== null));
      select(walk.end);
    });
    const item = element("li");
    item.append(button);
    list.append(item);
    before = walk;
  }

  function setOnlyWalked(wanted) {
    onlyWalked = wanted;
    document.getElementById("walked").setAttribute("aria-pressed", String(wanted));
  }
  const backNodes = rowsInOrder(backs);
  function rowsInOrder(map) { return depthFirst().filter((node) => map.has(node)); }
  function toChosen() { if (chosenWalk) select(chosenWalk.end); else where.textContent = "no line of this tree was chosen"; }
  function toBack() {
    if (!backNodes.length) { where.textContent = "the search never went back"; return; }
    const next = backNodes[(backNodes.indexOf(selected) + 1) % backNodes.length];
    select(next, true);
    where.textContent = `step ${tags[next]}: the search came back here before walk ${backs.get(next).join(", ")}`;
  }
  document.getElementById("all").addEventListener("click", () => { children.forEach((_, node) => open.add(node)); setOnlyWalked(false); layout(); });
  document.getElementById("walked").addEventListener("click", () => {
    setOnlyWalked(!onlyWalked);
    if (onlyWalked && !pathTo(selected).every((each) => !each || visible(parents[each]).includes(each))) selected = 0;
    layout();
  });
  document.getElementById("to-chosen").addEventListener("click", toChosen);
  document.getElementById("to-back").addEventListener("click", toBack);

  treeElement.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const place = placeOf.get(selected), below = visible(selected);
    const keys = {
      ArrowDown: () => select(rows[Math.min(place + 1, rows.length - 1)]),
      ArrowUp: () => select(rows[Math.max(place - 1, 0)]),
      PageDown: () => select(rows[Math.min(place + 15, rows.length - 1)]),
      PageUp: () => select(rows[Math.max(place - 15, 0)]),
      Home: () => select(0),
      End: () => select(rows[rows.length - 1]),
      ArrowRight: () => { if (below.length && !open.has(selected)) toggle(selected, true); else if (below.length) select(below[0]); },
      ArrowLeft: () => { if (below.length && open.has(selected)) toggle(selected, false); else if (selected) select(parents[selected]); },
      Enter: () => toggle(selected), " ": () => toggle(selected), c: toChosen, b: toBack,
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  treeElement.addEventListener("scroll", draw, { passive: true });
  window.addEventListener("resize", () => { draw(); overview(); });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", overview);
  setOnlyWalked(onlyWalked);
  select(chosenWalk ? chosenWalk.end : 0, true);
})();
